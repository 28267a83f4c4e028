import pytest
import torch

from fivl_hf.training.metrics import RunningSums, vision_metrics


def test_sums_are_those_since_the_last_log_of_their_mode():
    sums = RunningSums(lambda tensor: tensor * 2)  # two processes that see the same
    for value in (1.0, 2.0):
        sums.add("train", {"a": torch.tensor(value), "n": torch.tensor(1)})
    sums.add("eval", {"a": torch.tensor(10.0)})
    sums.add("train", {"b": torch.tensor(5)})
    assert sums.peek("train") == {"a": 6.0, "n": 4.0, "b": 10.0}
    assert sums.pop("train") == {"a": 6.0, "n": 4.0, "b": 10.0}
    assert sums.pop("train") == {}
    assert sums.pop("eval") == {"a": 20.0}


def test_one_reduction_a_batch_whatever_the_number_of_sums():
    calls = []
    sums = RunningSums(lambda tensor: calls.append(tensor.shape) or tensor)
    sums.add("train", {name: torch.tensor(1.0) for name in "abc"})
    assert calls == [(3,)]


def test_means_by_hand():
    total = {
        "language_nll": 6.0,
        "language_targets": 3,
        "vision_nll": 2.0,
        "vision_weight": 0.5,
        "vision_targets": 4,
        "vision_correct": 1,
        "image_tokens": 16,
    }
    assert vision_metrics(total) == {
        "language_loss": 2.0,
        "vision_loss": 4.0,
        "vision_token_accuracy": 0.25,
        "labelled_patches": 0.25,
    }


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        ({}, {}),
        ({"language_nll": 0.0, "language_targets": 0}, {}),
        ({"vision_targets": 0, "image_tokens": 9, "vision_weight": 0.0, "vision_nll": 0.0}, {"labelled_patches": 0.0}),
    ],
)
def test_a_mean_without_targets_is_left_out(total, expected):
    assert vision_metrics(total) == expected
