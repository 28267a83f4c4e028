import numpy as np
import pytest

import fivl_hf
from fivl_hf.explain.alignment import AlignmentMap, align, summary, top_heads


def test_shapes_that_disagree_are_named_by_sample():
    with pytest.raises(ValueError, match="sample 1: attention"):
        align([([[[1, 2]]], [0, 1]), ([[[1, 2]]], [0, 1, 2])])


def test_map_is_the_mean_over_samples_that_count():
    result = align(
        [
            ([[[1, 2, 3], [3, 2, 1]]], [0, 1, 2]),
            ([[[1, 2, 3, 4], [1, 1, 1, 1]]], [4, 3, 2, 1]),
            ([[[1, 2], [2, 1]]], [1, 1]),
        ]
    )["spearman"]
    assert result.mean().tolist() == [[0.0, -1.0]]
    assert result.n == 2


def test_summary_and_top_heads():
    result = AlignmentMap()
    result.add(np.array([[0.1, np.nan], [0.5, -0.2]]))
    assert summary(result)["alignment"] == [[0.1, None], [0.5, -0.2]]
    assert top_heads(result.mean(), 2) == [
        {"layer": 1, "head": 0, "score": 0.5},
        {"layer": 0, "head": 0, "score": 0.1},
    ]
    assert summary(AlignmentMap()) == {"alignment": [], "top_heads": [], "n": 0}
    with pytest.raises(ValueError, match="layers x heads"):
        result.add(np.zeros((3, 3)))


def test_several_measures_at_once():
    samples = [([[[1, 2, 3], [3, 2, 1]]], [0, 0, 1])]
    found = align(samples, ["auroc", "mse"])
    assert found["auroc"].mean().tolist() == [[1.0, 0.0]]
    best = summary(found["mse"], 1, higher_is_better=False)["top_heads"]
    assert best == [{"layer": 0, "head": 0, "score": pytest.approx((1 / 9 + 4 / 9) / 3)}]
    with pytest.raises(ValueError, match="sample 0: no measure 'iou'"):
        align(samples, ["iou"])


def test_the_metric_gives_further_measures_and_keeps_its_own():
    metric = fivl_hf.load_metric("head_alignment")
    given = {"predictions": [[[[0.1, 0.6, 0.3], [0.6, 0.1, 0.3]]]], "references": [[0.0, 1.0, 0.2]]}
    plain = metric.compute(**given)
    assert "measures" not in plain
    found = metric.compute(**given, measures=["auroc", "pointing_game"])
    assert {name: found[name] for name in plain} == plain
    assert found["measures"]["pointing_game"]["alignment"] == [[1.0, 0.0]]
    assert found["measures"]["auroc"]["top_heads"][0]["head"] == 0
