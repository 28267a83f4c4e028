import numpy as np
import pytest
from judges import honest, image_of, kind_of
from PIL import Image
from scripted_server import Answer

from fivl_hf.augment.judge import Judged, Judgement, judge_rows, summarize
from fivl_hf.images import as_encoded, image_bytes
from fivl_hf.llm.settings import Usage
from fivl_hf.masks import encode_mask
from fivl_hf.storage import load_rows, write_dataset


def test_every_expression_of_a_sample_is_judged_inside_and_outside(scenes_folder, serve, settings, tmp_path):
    server = serve(honest)
    rows = load_rows(scenes_folder, "train")
    judged = judge_rows(rows, settings(server), tmp_path / "a.sqlite", samples=5)
    asked = {row["id"]: [e["text"] for e in row["key_expressions"]] for row in rows}
    drawn = {judgement.id for judgement in judged.judgements}
    assert len(drawn) == 5
    assert [j.text for j in judged.judgements] == [text for id in asked if id in drawn for text in asked[id]]
    assert all(j.seg1 and j.important and j.degree == 8 and j.problem is None for j in judged.judgements)
    shares = {kind_of(body): (image_of(body).max(axis=2) < 20).mean() for body in server.bodies}
    assert shares["importance"] < 0.05
    assert shares["seg1"] > 0.8
    assert 0.01 < shares["seg2"] < 0.2
    again = judge_rows(rows, settings(server), tmp_path / "a.sqlite", samples=5)
    assert again.judgements == judged.judgements
    assert (again.spent.requests, again.spent.cached) == (0, 3 * len(judged.judgements))


def test_the_papers_judge_sees_patches_as_dark_as_they_are_covered(serve, settings, tmp_path):
    """A white image of 336×168, its left third masked: padded to 24×24 patches of 14 pixels, eight columns are seen."""
    mask = np.zeros((168, 336), dtype=bool)
    mask[:, :119] = True  # eight columns and a half
    expression = {"turn": 0, "text": "wall", "start": 2, "end": 6, "keywords": ["wall"], "boxes": [], "score": None}
    row = {
        "id": "0",
        "images": [as_encoded(image_bytes(Image.new("RGB", (336, 168), "white")))],
        "messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A wall."}],
        "key_expressions": [{**expression, "image": 0}],
        "masks": [as_encoded(encode_mask(mask))],
        "source": "",
    }
    server = serve(honest)
    rows = load_rows(
        write_dataset(tmp_path / "d", {"train": [row]}, title="T", description="D") or tmp_path / "d", "train"
    )
    judge_rows(rows, settings(server), tmp_path / "a.sqlite", protocol="paper")
    seen = {kind_of(body): image_of(body)[..., 0] for body in server.bodies}
    assert seen["importance"].shape == (168, 336)
    # One row of the image's pixels, and one of the padding above it.
    image, padding = ({kind: seen[kind][row, 7::14] for kind in ("seg1", "seg2")} for row in (150, 40))
    assert np.allclose(image["seg1"], [255] * 8 + [127.5] + [0] * 15, atol=6)
    assert np.allclose(image["seg2"], [0] * 8 + [127.5] + [255] * 15, atol=6)
    assert padding["seg1"].max() < 6
    assert padding["seg2"].min() > 100


def test_a_judge_that_answers_nonsense_is_counted(scenes_folder, serve, settings, tmp_path):
    server = serve(lambda body, number: Answer("yes!" if kind_of(body) == "seg1" else '{"visible": false}'))
    judged = judge_rows(load_rows(scenes_folder, "train"), settings(server), tmp_path / "a.sqlite", samples=4)
    summary = summarize(judged)
    assert summary["samples"] == 4
    assert summary["without_usable_reply"] == summary["all"]["n"] > 4
    assert summary["all"]["seg1"] == {"mean": None, "confidence_interval": None, "n": 0}
    assert summary["all"]["seg2"]["mean"] == 0.0
    assert (
        "seg1: the language model's reply cannot be used: the reply is not valid JSON" in judged.judgements[0].problem
    )
    assert "cannot be used: a degree from 0 to 10" in judged.judgements[0].problem


def test_the_summary_by_hand():
    judgements = [Judgement(str(i), 0, "a", 0.1, True, degree, i < 8, False) for i, degree in enumerate([5] * 10)]
    judgements.append(Judgement("x", 0, "a", 1.0, False, 0, False, True))
    summary = summarize(Judged(judgements, Usage()))
    band = summary["by_mask_coverage"]["5% to 20%"]
    assert band["n"] == 10
    # Wilson's interval of 8 of 10 at 95%.
    assert band["seg1"]["mean"] == 0.8
    assert band["seg1"]["confidence_interval"] == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert band["degree"] == {"mean": 5.0, "confidence_interval": [5.0, 5.0], "n": 10}
    assert summary["by_mask_coverage"]["50% to 100%"]["n"] == 1
    assert summary["by_mask_coverage"]["0% to 5%"]["degree"]["mean"] is None
    assert summary["all"]["important"]["mean"] == pytest.approx(10 / 11)


def test_expressions_of_one_sample_are_not_independent():
    """Ten samples of five expressions that all agree say as much as ten expressions."""
    alone = [Judgement(str(i), 0, "a", 0.1, True, i % 3, i < 8, False) for i in range(10)]
    repeated = [judgement for judgement in alone for _ in range(5)]
    one, five = (summarize(Judged(judgements, Usage()))["all"] for judgements in (alone, repeated))
    assert (one["n"], five["n"]) == (10, 50)
    for name in ("important", "degree", "seg1", "seg2"):
        assert five[name]["mean"] == one[name]["mean"]
        assert five[name]["confidence_interval"] == pytest.approx(one[name]["confidence_interval"])


def test_rows_without_expressions_are_said(scenes_folder, serve, settings, tmp_path):
    rows = load_rows(scenes_folder, "train").map(lambda row: {"key_expressions": []})
    with pytest.raises(ValueError, match="no key expressions to judge"):
        judge_rows(rows, settings(serve(honest)), tmp_path / "a.sqlite")
