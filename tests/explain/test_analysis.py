import json

import numpy as np
import pytest
import torch
from scipy import stats

from fivl_hf.explain.analysis import explain
from fivl_hf.explain.observation import token_attention
from fivl_hf.explain.runner import explanation_summary
from fivl_hf.explain.samples import prepare
from fivl_hf.explain.segmentation import token_iou


@torch.no_grad()
def test_attention_is_that_of_the_steps_that_produce_the_tokens(model, processor, rows):
    sample = prepare(model, processor, rows[0])
    got = token_attention(model, sample, [evidence.tokens for evidence in sample.evidence])
    model.set_attn_implementation("eager")
    full = model(**sample.inputs, output_attentions=True).attentions
    for evidence, attention in zip(sample.evidence, got, strict=True):
        for layer in range(len(full)):
            rows_of = full[layer][0][:, evidence.tokens - 1][:, :, sample.image_positions].mean(1)
            assert np.allclose(attention[layer], rows_of.numpy(), atol=1e-5)


@torch.no_grad()
def test_whole_analysis_equals_the_naive_loops(model, processor, rows):
    """Eager attention, SciPy head by head, argmax of full logits: the same map and the same IoU."""
    found = explain(model, processor, rows[:4])
    totals, ious = [], []
    model.set_attn_implementation("eager")
    for raw in rows[:4]:
        sample = prepare(model, processor, raw)
        outputs = model(**sample.inputs, output_attentions=True)
        predicted = outputs.logits[0].argmax(-1)[sample.image_positions].numpy()
        for evidence in sample.evidence:
            scores = np.zeros((len(outputs.attentions), outputs.attentions[0].shape[1]))
            for (layer, head), _ in np.ndenumerate(scores):
                row = outputs.attentions[layer][0, head, evidence.tokens - 1][:, sample.image_positions].mean(0)
                scores[layer, head] = stats.spearmanr(row, evidence.coverage).statistic
            totals.append(scores)
            ious.append(token_iou(predicted, evidence.coverage > 0, evidence.keyword_id))
    assert np.allclose(found.alignment.mean(), np.mean(totals, axis=0), atol=1e-6)
    assert found.segmentation["iou"] == pytest.approx(np.mean(ious))
    assert found.segmentation["n"] == len(ious)
    assert found.alignment.n == len(totals)
    assert found.control.n == len(totals)


def test_the_control_takes_another_image(model, processor, rows):
    """Rows about one image are no control for each other."""
    same = [{**rows[0], "id": str(i)} for i in range(3)]
    found = explain(model, processor, same)
    assert found.control.n == 0
    assert found.skipped["no other image for the control"] == 3 * len(rows[0]["key_expressions"])
    mixed = explain(model, processor, [rows[1], *same])
    assert mixed.control.n == 3 * len(rows[0]["key_expressions"]) + len(rows[1]["key_expressions"])
    assert "too few images" in explanation_summary(found)["reason"]
    json.dumps(explanation_summary(found), allow_nan=False)


def test_the_best_head_is_chosen_on_another_split(model, processor, rows):
    found, others = explain(model, processor, rows[:4]), explain(model, processor, rows[4:8])
    best = found.best_heads(1, chosen_on=others)[0]
    place = np.unravel_index(np.argmax(others.alignment.mean()), others.alignment.mean().shape)
    assert (best["layer"], best["head"]) == place
    assert best["score"] == found.alignment.mean()[place]
    assert best["control"] == found.control.mean()[place]
