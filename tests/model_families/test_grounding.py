"""Measures, knock-out and boxes of every family, in both dtypes."""

import numpy as np
import pytest
import torch
from families import FAMILIES, enlarge, large_rows, make

from fivl_hf.explain.effects import AnswerBatches, effects
from fivl_hf.explain.grounding import compare_boxes, ground
from fivl_hf.explain.measures import MEASURES, measured
from fivl_hf.explain.observation import token_attention
from fivl_hf.explain.samples import prepare
from fivl_hf.models import uses_cross_attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_explained_by_all_means(name, dtype, rows, record_property):
    record_property("table", (name, "boxes"))
    processor, model = make(name)
    enlarge(model)
    row = large_rows(rows[:1])[0]
    sample = prepare(model.eval(), processor, row)
    model = model.to(dtype)
    evidence = sample.evidence[0]
    sees = np.isfinite(evidence.coverage)
    (attention,) = token_attention(model, sample, [evidence.tokens])
    looking = 1 if uses_cross_attention(model.config) else 0
    found = measured(attention[..., sees], evidence.coverage[sees], list(MEASURES))
    assert all(np.isfinite(values[looking]).all() for values in found.values())

    image = sample.images[0]
    box = ground(model, processor, image, "red ring", heads=[(looking, 0), (looking, 1)]).box
    x0, y0, x1, y1 = box
    assert 0 <= x0 < x1 <= image.width + 1e-6
    assert 0 <= y0 < y1 <= image.height + 1e-6

    samples = [prepare(model, processor, each) for each in large_rows(rows[:2])]
    boxes = compare_boxes(model, samples[:1], [("other", samples[1])])
    assert all(0 <= boxes[way]["iou"]["value"] <= 1 for way in ("heads by masks", "all heads"))
    assert {"iou", "reason"} & set(boxes["localization heads"])

    batches = AnswerBatches(model, processor, [row])
    for how in ("zero", "mean", "edges"):
        ((_, effect),) = effects(model, batches, {("aligned", 1, -1): [(0, 0)]}, how)
        assert np.isfinite([effect.expression, effect.other, effect.text_only]).all(), how
