from functools import partial

import numpy as np
import torch

from fivl_hf.explain.analysis import explain, explain_rows
from fivl_hf.explain.observation import Wanted, observe
from fivl_hf.explain.samples import prepare
from fivl_hf.explain.sinks import visual_sinks


def test_tokens_with_the_first_tokens_large_dimensions_are_sinks():
    hidden = torch.randn(12, 1000, generator=torch.Generator().manual_seed(0))
    hidden[0, [3, 7]] = 500.0
    hidden[5, 3] = -400.0  # as the first token
    hidden[8, 9] = 500.0  # large where the first token is not
    positions = torch.tensor([4, 5, 8])
    assert visual_sinks(hidden, positions).tolist() == [False, True, False]
    hidden[0] = 1.0
    assert not visual_sinks(hidden, positions).any()


def with_sink(model, sample):
    """Let a layer make one visual token, and the first token, a sink."""

    def write(_, __, output):
        hidden = (output if isinstance(output, torch.Tensor) else output[0]).clone()
        hidden[:, [0, int(sample.image_positions[4])], 5] = 1e4
        return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

    return model.get_decoder().layers[1].register_forward_hook(write)


def test_measures_are_taken_without_sinks_if_asked(model, processor, rows, monkeypatch):
    # In a hidden state of few dimensions, none is 20 times the root mean square.
    monkeypatch.setattr("fivl_hf.explain.observation.visual_sinks", partial(visual_sinks, large=4))
    sample = prepare(model.eval(), processor, rows[0])
    hook = with_sink(model, sample)
    assert np.flatnonzero(observe(model, [sample], [Wanted()])[0].sinks).tolist() == [4]
    kept, dropped = (
        next(iter(explain_rows(model, processor, rows[:2], without_sinks=without))).expressions[0]
        for without in (False, True)
    )
    both = explain(model, processor, rows[:2]).measures["auroc"]["without_sinks"]
    hook.remove()
    assert np.array_equal(kept.auroc_without_sinks["own"], dropped.measures["auroc"])
    assert np.array_equal(kept.without_sinks[1], dropped.controls["auroc"], equal_nan=True)
    assert both["expressions_with_sinks"] == sum(len(row["key_expressions"]) for row in rows[:2])
    assert kept.mask_share != dropped.mask_share
    assert not np.array_equal(kept.measures["auroc"], dropped.measures["auroc"])
    plain, without = (explain(model, processor, rows[:2], without_sinks=each) for each in (False, True))
    # A model without sinks is measured as before.
    assert "without_sinks" not in plain.measures["auroc"]
    assert plain.with_sinks == 0
    assert np.array_equal(plain.alignment.mean(), without.alignment.mean())
