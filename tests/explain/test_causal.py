import json

import numpy as np
import pytest

from fivl_hf.cli.main import main
from fivl_hf.explain.causal import HeadScores, effects, knockout_curves, matched_heads, without_images
from fivl_hf.explain.knockout import knock_out
from fivl_hf.explain.samples import prepare
from fivl_hf.storage import write_dataset


def scores(layers=4, heads=8, seed=0):
    rng = np.random.default_rng(seed)
    return HeadScores(rng.random((layers, heads)), rng.random((layers, heads)))


def test_heads_are_ranked_either_way_and_blind_ones_left_out():
    found = scores()
    found.auroc[0] = np.nan
    best, worst = found.ranked("aligned"), found.ranked("least aligned")
    assert len(best) == 24
    assert best == worst[::-1]
    assert best[0] == np.unravel_index(np.nanargmax(found.auroc), (4, 8))


def test_random_heads_are_of_the_same_layers_and_look_as_much():
    found, rng = scores(heads=16), np.random.default_rng(1)
    chosen = [(0, 3), (0, 5), (2, 1)]
    drawn = {tuple(matched_heads(chosen, found, rng)) for _ in range(200)}
    assert len(drawn) > 20
    for heads in drawn:
        assert [layer for layer, _ in heads] == [0, 0, 2]
        assert not set(heads) & set(chosen)
        assert len(set(heads)) == 3
        others = sorted(abs(found.mass[2, head] - found.mass[2, 1]) for head in range(16) if head != 1)
        assert abs(found.mass[heads[2]] - found.mass[2, 1]) in others[:4]
    # A layer that has no other head left.
    whole = [(1, head) for head in range(16)]
    assert not set(matched_heads(whole, found, rng)) & set(whole)
    with pytest.raises(ValueError, match="63 heads cannot be matched: the model has 1 others"):
        matched_heads(found.ranked("aligned")[:63], found, rng)


def test_an_effect_is_the_fall_of_log_probabilities(model, processor, rows):
    """By hand: the mean over the expressions' tokens, the other answer tokens, and all of them without the image."""
    model.eval()
    samples = [prepare(model, processor, row) for row in rows[:2]]
    text = [prepare(model, processor, without_images(row)) for row in rows[:2]]
    heads = [(0, 0), (1, 2)]

    def log_probabilities(sample):
        ids = sample.inputs["input_ids"][0]
        logits = model(**sample.inputs, use_cache=False).logits[0].log_softmax(-1).detach()
        return {place: float(logits[place - 1, ids[place]]) for place in range(1, len(ids))}

    def answer(sample):
        places = set()
        for span in sample.encoded.answers[0]:
            for place, (start, end) in enumerate(sample.encoded.offsets[0]):
                if start < span.end and end > span.text_start and end > start:
                    places.add(place)
        return places

    plain = [log_probabilities(sample) for sample in [*samples, *text]]
    with knock_out(model, heads):
        under = [log_probabilities(sample) for sample in [*samples, *text]]
    falls = [{place: a[place] - b[place] for place in a} for a, b in zip(plain, under, strict=True)]
    inside = [{int(token) for evidence in sample.evidence for token in evidence.tokens} for sample in samples]
    pairs = list(zip(samples, falls, inside, strict=False))
    expression = [fall[place] for _, fall, own in pairs for place in own]
    other = [fall[place] for sample, fall, own in pairs for place in answer(sample) - own]
    alone = [fall[place] for sample, fall in zip(text, falls[2:], strict=True) for place in answer(sample)]
    ((name, found),) = effects(model, samples, text, {("aligned", 2, -1): heads})
    assert name == ("aligned", 2, -1)
    assert found.expression == pytest.approx(np.mean(expression), abs=1e-5)
    assert found.other == pytest.approx(np.mean(other), abs=1e-5)
    assert found.text_only == pytest.approx(np.mean(alone), abs=1e-5)
    assert found.specific == pytest.approx(found.expression - found.other)


def test_the_command_goes_on_where_it_stopped(model, processor, rows, tmp_path, capsys):
    write_dataset(tmp_path / "rows", {"test": rows[:6]}, title="S", description="D")
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    command = ["knockout", "--model", str(tmp_path / "model"), "--dataset", str(tmp_path / "rows")]
    command += ["--draws", "3", "--sizes", "1,2"]
    for how in ("zero", "mean", "edges"):
        out = tmp_path / how
        assert main([*command, "--how", how, "--output", str(out)]) == 0
        result = json.loads((out / "knockout.json").read_text())
        assert [each["k"] for each in result["sets"]["aligned"]["effects"]] == [1, 2]
        assert all(0 < each["p"] <= 1 for found in result["sets"].values() for each in found["effects"])
        assert (out / "knockout.png").stat().st_size > 5000
        lines = (out / "knockout.jsonl").read_text().splitlines(True)
        sets = json.loads((out / "knockout.json").read_text())["sets"]
        assert len(lines) == sum(len(each["effects"]) for each in sets.values()) * (1 + 3)
        (out / "knockout.jsonl").write_text("".join(lines[:7]) + lines[7][:20])
        assert main([*command, "--how", how, "--output", str(out)]) == 0
        assert (out / "knockout.jsonl").read_text().splitlines(True) == lines
        assert json.loads((out / "knockout.json").read_text()) == result
    assert "random sets" in capsys.readouterr().out
    assert main([*command, "--how", "mean", "--output", str(tmp_path / "zero")]) == 1
    assert "holds the knockout of another run (how: 'zero', now 'mean')" in capsys.readouterr().err
    assert main([*command, "--sizes", "5", "--output", str(tmp_path / "new")]) == 1
    assert "sizes must be from 1 to 4, half of the 8 heads that see the image" in capsys.readouterr().err
    assert main([*command, "--split", "test[:1]", "--output", str(tmp_path / "one")]) == 1
    assert "the rows are about too few images" in capsys.readouterr().err


def test_rows_without_evidence_are_told(model, processor, rows):
    bare = [{**row, "key_expressions": [], "masks": []} for row in rows[:4]]
    with pytest.raises(ValueError, match="no row has a key expression whose tokens and mask can be compared"):
        knockout_curves(model, processor, bare[:2], bare[2:])
    with pytest.raises(ValueError, match="none of the rows to measure on has a key expression"):
        knockout_curves(model, processor, rows[:2], bare[2:])
