import json

import numpy as np
import pytest
import torch
from PIL import Image

from fivl_hf.explain.lens import PLACES
from fivl_hf.explain.runner import write_explanation


def test_written_explanation(model, processor, rows, tmp_path):
    result = write_explanation(model, processor, rows[:3], tmp_path, pictures=2)
    written = json.loads((tmp_path / "explanation.json").read_text())
    assert written == json.loads(json.dumps(result))
    assert written["best_head"] == written["top_heads"][0]
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2
    assert Image.open(tmp_path / "head_map.png").width > 300
    bare = [{**rows[0], "key_expressions": [], "masks": []}]
    with pytest.raises(ValueError, match="no row has a key expression"):
        write_explanation(model, processor, bare, tmp_path)


ABOUT = {"model": "m", "dataset": "d"}


class KilledError(BaseException):
    pass


def test_an_interrupted_explanation_goes_on(model, processor, rows, tmp_path, monkeypatch):
    options = {"pictures": 0, "boxes": 0, "about": ABOUT, "batch_size": 1}
    whole = write_explanation(model, processor, rows[:4], tmp_path / "whole", **options)
    calls, limit, forward = 0, 0, model.base_model.forward

    def counted(*args, **options):
        nonlocal calls
        calls += 1
        if calls > limit:
            raise KilledError
        return forward(*args, **options)

    monkeypatch.setattr(model.base_model, "forward", counted)
    file = tmp_path / "out" / "scores.jsonl"
    for limit in (0, 2, 3):
        calls = 0
        file.unlink(missing_ok=True)
        with pytest.raises(KilledError):
            write_explanation(model, processor, rows[:4], tmp_path / "out", **options)
        if limit:
            file.write_bytes(file.read_bytes()[:-20])  # the last row's line was cut off, too
        calls, done, limit = 0, max(limit - 1, 0), 100
        assert write_explanation(model, processor, rows[:4], tmp_path / "out", **options) == whole
        assert calls == 4 - done


def test_one_broken_row_is_listed_and_loses_nothing(model, processor, rows, tmp_path):
    broken = {**rows[1], "images": [{"bytes": b"no image", "path": None}]}
    given = [rows[0], broken, *rows[2:5]]
    result = write_explanation(model, processor, given, tmp_path, pictures=1, about=ABOUT)
    assert list(result["problems"]) == [rows[1]["id"]]
    assert rows[1]["id"] in result["problems"][rows[1]["id"]]
    assert result["n"] == sum(len(row["key_expressions"]) for row in given if row is not broken)
    # Once repaired, the row is explained without the others being explained again.
    repaired = write_explanation(model, processor, rows[:5], tmp_path, pictures=1, about=ABOUT)
    assert repaired["problems"] == {}
    assert repaired["n"] == result["n"] + len(rows[1]["key_expressions"])


def test_keywords_are_followed_through_the_layers(model, processor, rows, tmp_path):
    result = write_explanation(model, processor, rows[:4], tmp_path, pictures=0)
    lens = result["lens"]
    assert lens["n"] == sum(len(row["key_expressions"]) for row in rows[:4])
    assert set(lens["rank"]) == set(PLACES)
    vocabulary = len(processor.tokenizer)
    assert all(1 <= rank <= vocabulary for ranks in lens["rank"].values() for rank in ranks)
    assert all(len(ranks) == 2 for ranks in lens["probability"].values())
    assert Image.open(tmp_path / "lens.png").width > 300


def test_boxes_of_heads_are_compared(model, processor, rows, tmp_path):
    result = write_explanation(model, processor, rows[:8], tmp_path / "a", pictures=0)
    # Heads of an untrained model attend evenly: none of them at a spot.
    assert "concentrated on one spot" in result["localization"]["localization heads"]["reason"]
    assert 0 <= result["localization"]["heads by masks"]["iou"]["value"] <= 1
    one = write_explanation(model, processor, rows[:1], tmp_path / "b", pictures=0)
    assert "too few images" in one["localization"]["reason"]
    none = write_explanation(model, processor, rows[:2], tmp_path / "c", pictures=0, boxes=0)
    assert "localization" not in none


def test_constant_attention_is_at_chance_and_has_no_correlation(model, processor, rows, tmp_path):
    with torch.no_grad():
        for layer in model.get_decoder().layers:
            layer.self_attn.q_proj.weight.zero_()
    result = write_explanation(model, processor, rows[:8], tmp_path, pictures=1, boxes=0)
    assert np.allclose(result["measures"]["auroc"]["alignment"], 0.5)
    assert result["measures"]["spearman"]["top_heads"] == []
    assert result["best_head"] is None
    assert "no head has a score" in result["measures"]["spearman"]["held_out"]["reason"]
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "expressions", ["[{}]", '[{"measures": {"auroc": [2, 4, "AAAA"]}}]', '[{"alignment": [2, 4, "AAAA"]}]']
)
def test_damaged_scores_are_named(model, processor, rows, tmp_path, expressions):
    write_explanation(model, processor, rows[:3], tmp_path, pictures=0, boxes=0, about=ABOUT)
    file = tmp_path / "scores.jsonl"
    file.write_text(f'{{"id": "a", "image": "b", "expressions": {expressions}, "problem": null}}\n')
    with pytest.raises(ValueError, match=r"scores.jsonl, line 1, is not a row's scores: .*use --restart"):
        write_explanation(model, processor, rows[:3], tmp_path, pictures=0, boxes=0, about=ABOUT)


def test_damaged_maps_are_named(model, processor, rows, tmp_path):
    write_explanation(model, processor, rows[:3], tmp_path, pictures=0, boxes=0, about=ABOUT)
    file = tmp_path / "scores.jsonl"
    first, *others = file.read_text().splitlines(True)
    raw = json.loads(first)
    raw["expressions"][0]["measures"]["auroc"][2] = "AAAA"
    file.write_text("".join([json.dumps(raw) + "\n", *others]))
    with pytest.raises(ValueError, match="scores.jsonl holds damaged scores of row .*use --restart"):
        write_explanation(model, processor, rows[:3], tmp_path, pictures=0, boxes=0, about=ABOUT)


def test_a_damaged_knockout_is_told_before_the_work(model, processor, rows, tmp_path, monkeypatch):
    (tmp_path / "knockout.json").write_text("{")
    monkeypatch.setattr("fivl_hf.explain.runner.explain_rows", None)
    with pytest.raises(ValueError, match="knockout.json is damaged .*run fivl knockout again"):
        write_explanation(model, processor, rows[:3], tmp_path, about=ABOUT)


def test_boxes_are_of_the_same_halves_as_heads(model, processor, rows, tmp_path, monkeypatch):
    """Rows that are linked by one that boxes are not found on are in one half all the same."""
    monkeypatch.setattr("fivl_hf.explain.runner.image_groups", lambda rows: ["a", "a", "b", "b", "c", "c"])
    halves = []

    def compared(model, choosing, measuring):
        halves.append(({sample.id for sample in choosing}, {sample.id for _, sample in measuring}))
        return {}

    monkeypatch.setattr("fivl_hf.explain.runner.compare_boxes", compared)
    for seed in range(4):
        write_explanation(model, processor, rows[:6], tmp_path, pictures=0, boxes=4, seed=seed)
    pairs = [{rows[0]["id"], rows[1]["id"]}, {rows[2]["id"], rows[3]["id"]}]
    assert halves
    assert all(half in pairs for each in halves for half in each)
