import pytest
import torch

from fivl_hf.explain.observation import vision_predictions
from fivl_hf.explain.samples import prepare
from fivl_hf.explain.segmentation import prompted_segmentation_scores, segmentation_scores, token_iou


def test_predictions_are_per_visual_token(model, processor, rows):
    sample = prepare(model, processor, rows[0])
    predicted = vision_predictions(model, sample)
    assert predicted.shape == (25,)
    with torch.no_grad():
        logits = model(**sample.inputs).logits[0, sample.image_positions]
    assert predicted.tolist() == logits.argmax(-1).tolist()


def test_iou_by_hand():
    assert token_iou([7, 7, 9], [1, 0, 0], 7) == 0.5
    assert token_iou([9, 9, 9], [1, 0, 0], 7) == 0.0
    scores = segmentation_scores([[7, 7, 9], [1, 2, 3], [5, 5, 5]], [[1, 0, 0], [0, 1, 0], [0, 0, 0]], [7, 9, 5])
    assert scores == {"iou": 0.25, "n": 2, "keyword_predicted": 0.5, "tokens_per_sample": 2.5, "skipped": 1}
    assert segmentation_scores([], [], [])["iou"] is None
    with pytest.raises(ValueError, match="sample 0"):
        segmentation_scores([[1, 2]], [[1]], [1])
    with pytest.raises(ValueError, match="one entry per sample"):
        segmentation_scores([[1]], [], [1])


def test_prompted_scores_by_hand():
    """Two samples: "7" is found and half right, "9" is not found; "5" is found where it was not predicted."""
    scores = prompted_segmentation_scores(
        [[7, 7, 9, 9], [5, 5, 5, 5]], [[[1, 0, 0, 0], []], [[0, 0, 0, 0.1]]], [[7, 9], [5]]
    )
    assert scores == {"iou": (0.5 + 0.25) / 2, "n": 2, "share_found": 2 / 3, "tokens_per_sample": 1.5}
    nothing = prompted_segmentation_scores([], [], [])
    assert (nothing["iou"], nothing["share_found"]) == (None, None)
    with pytest.raises(ValueError, match="sample 0: 2 prompted tokens, but 1 masks"):
        prompted_segmentation_scores([[7]], [[[1]]], [[7, 8]])
    with pytest.raises(ValueError, match="one value of a mask per visual token"):
        prompted_segmentation_scores([[7]], [[[1, 0]]], [[7]])
