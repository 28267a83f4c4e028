import json

import pytest
import torch
from transformers import AutoModelForImageTextToText

from fivl_hf.demo.training import train_on_scenes


def test_both_losses_start_from_the_same_weights_and_rows(dataset, tmp_path):
    """The same seed, whatever λ: the first loss on the text is that of the same weights on the same batch."""
    steps = []
    for name, weight in (("with", 0.1), ("without", 0.0)):
        train_on_scenes(
            dataset, tmp_path / name, vision_loss_weight=weight, seed=3, steps=2, batch_size=4, on_step=steps.append
        )
    assert steps == [1, 2, 1, 2]
    logs = [json.loads((tmp_path / name / "log.json").read_text()) for name in ("with", "without")]
    assert logs[0][0]["language_loss"] == pytest.approx(logs[1][0]["language_loss"], rel=1e-6)
    assert "vision_loss" in logs[0][0]
    assert "vision_loss" not in logs[1][0]
    one, other = (
        AutoModelForImageTextToText.from_pretrained(tmp_path / name).state_dict() for name in ("with", "without")
    )
    assert one.keys() == other.keys()
    assert any(not torch.equal(one[name], other[name]) for name in one)
