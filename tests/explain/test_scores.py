import hashlib

import numpy as np
import pytest

from fivl_hf.explain.alignment import AlignmentMap
from fivl_hf.explain.analysis import explain, gather
from fivl_hf.explain.measures import spearman
from fivl_hf.explain.observation import token_attention
from fivl_hf.explain.other_images import image_groups
from fivl_hf.explain.runner import write_explanation
from fivl_hf.explain.samples import prepare
from fivl_hf.explain.scores import ExpressionScores, RowScores, ScoreFile
from fivl_hf.explain.segmentation import SegmentScore
from fivl_hf.explain.selection import image_halves


def test_the_best_head_is_measured_on_other_images(model, processor, rows):
    """Chosen on one half of the images, scored on the other: no image is in both."""
    found = explain(model, processor, rows[:8])
    choosing = image_halves(image_groups(rows[:8]))
    halves = {0: AlignmentMap(), 1: AlignmentMap()}
    for raw in rows[:8]:
        sample = prepare(model, processor, raw)
        half = 0 if hashlib.sha256(raw["images"][0]["bytes"]).hexdigest()[:16] in choosing else 1
        attention = token_attention(model, sample, [evidence.tokens for evidence in sample.evidence])
        for evidence, heads in zip(sample.evidence, attention, strict=True):
            halves[half].add(spearman(heads, evidence.coverage))
    best, *_ = found.best_heads()
    chosen, held_out = halves[0].mean(), halves[1].mean()
    assert (best["layer"], best["head"]) == np.unravel_index(np.argmax(chosen), chosen.shape)
    assert best["chosen_by"] == pytest.approx(chosen.max())
    assert best["score"] == pytest.approx(held_out[best["layer"], best["head"]])
    assert best["control"] == pytest.approx(found.held_out_control.mean()[best["layer"], best["head"]])


def noise(generator):
    return ExpressionScores(
        measures={"spearman": generator.normal(0, 0.3, (32, 32))}, controls={"spearman": np.zeros((32, 32))}
    )


def test_the_best_of_many_random_heads_is_not_overrated():
    """Heads without any alignment: chosen and scored on the same images, one of 1,024 looks aligned."""
    generator = np.random.default_rng(0)
    rows = [RowScores(str(i), f"{i:08x}", (noise(generator),)) for i in range(40)]
    found = gather(rows, image_halves(row.image for row in rows))
    best, *_ = found.best_heads()
    assert found.alignment.mean().max() > 0.12
    assert best["chosen_by"] > 0.15
    assert abs(best["score"]) < 0.1


ABOUT = {"model": "m", "dataset": "d"}


def test_scores_come_back_as_they_went(tmp_path):
    file = ScoreFile(tmp_path / "scores.jsonl")
    heads = np.array([[0.25, np.nan], [-0.5, 0.125]])
    one = ExpressionScores(
        measures={"spearman": heads, "auroc": heads, "iou": np.stack([heads, heads], axis=-1)},
        by_scale={"whole": heads},
        mask_share=0.2,
        segment=SegmentScore(0.5, True, 3),
        skipped=("no keyword",),
    )
    file.add(RowScores("1", "ab", (one, ExpressionScores())))
    file.add(RowScores("2", problem="broken"))
    again = ScoreFile(tmp_path / "scores.jsonl")
    assert again.known == {"1"}
    first, second = again
    np.testing.assert_array_equal(first.expressions[0].alignment, heads)
    np.testing.assert_array_equal(first.expressions[0].by_scale["whole"], heads)
    assert first.expressions[0].control is None
    np.testing.assert_array_equal(first.expressions[0].measures["auroc"], heads)
    np.testing.assert_array_equal(first.expressions[0].measures["iou"], one.measures["iou"])
    assert (first.expressions[0].controls, first.expressions[0].mask_share) == ({}, 0.2)
    assert first.expressions[0].segment == SegmentScore(0.5, True, 3)
    assert first.expressions[0].skipped == ("no keyword",)
    assert first.expressions[1] == ExpressionScores()
    assert (first.id, first.image, second.problem) == ("1", "ab", "broken")
    again.add(RowScores("2", "cd"))
    assert [row.problem for row in ScoreFile(tmp_path / "scores.jsonl")] == [None, None]


def test_another_file_is_not_taken_for_scores(model, processor, rows, tmp_path):
    (tmp_path / "scores.jsonl").write_text("[1]\n")
    with pytest.raises(ValueError, match=r"holds scores.jsonl of an unknown run"):
        write_explanation(model, processor, rows[:2], tmp_path, about=ABOUT)
    with pytest.raises(ValueError, match=r"scores.jsonl, line 1, is not a row's scores"):
        ScoreFile(tmp_path / "scores.jsonl")
