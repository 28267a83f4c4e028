"""What is said about heads, on models where one head is known to do the looking."""

import numpy as np
import pytest
import torch
from planted import VARIANTS, planted, planted_rows

from fivl_hf.explain.knockout import knock_out
from fivl_hf.explain.knockout_plan import knockout_curves
from fivl_hf.explain.localization import HeadVotes, attention_maps, locate
from fivl_hf.explain.measures import IOU_THRESHOLDS, MEASURES, iou_at, measured
from fivl_hf.explain.observation import token_attention
from fivl_hf.explain.samples import prepare
from fivl_hf.masks import box_iou


@pytest.fixture(scope="module", params=VARIANTS)
def known(request):
    return planted(request.param)


def test_every_measure_ranks_the_planted_head_first(known):
    sums = dict.fromkeys(MEASURES, 0)
    for row in planted_rows():
        sample = prepare(known.model, known.processor, row)
        evidence = sample.evidence[0]
        sees = np.isfinite(evidence.coverage)
        (attention,) = token_attention(known.model, sample, [evidence.tokens])
        for name, found in measured(attention[..., sees], evidence.coverage[sees], list(MEASURES)).items():
            sums[name] += found
        by_threshold = iou_at(attention[..., sees], evidence.coverage[sees], IOU_THRESHOLDS)
        sums["iou"] = sums.get("iou", 0) + by_threshold
    sums["iou"] = sums["iou"].max(axis=0)
    for name, total in sums.items():
        best = np.nanargmin(total) if name == "mse" else np.nanargmax(total)
        assert np.unravel_index(best, total.shape) == known.head, name


def test_without_the_planted_head_and_no_other_the_answer_is_lost(known):
    row = planted_rows(1)[0]
    sample = prepare(known.model, known.processor, row)
    place, word = int(sample.evidence[0].tokens[0]) - 1, sample.evidence[0].keyword_id

    @torch.inference_mode()
    def log_probability():
        return float(known.model(**sample.inputs, use_cache=False).logits[0, place].log_softmax(-1)[word])

    plain = log_probability()
    assert plain > np.log(0.5)
    text = known.model.config.get_text_config()
    for how in ("zero", "edges"):
        for layer in range(text.num_hidden_layers):
            for head in range(text.num_attention_heads):
                with knock_out(known.model, [(layer, head)], how):
                    without = log_probability()
                if (layer, head) == known.head:
                    assert without < np.log(0.1), how
                else:
                    assert without == pytest.approx(plain, abs=1e-4)


def test_the_planted_head_matters_and_random_ones_like_it_do_not(known):
    rows = planted_rows(8)
    found = knockout_curves(known.model, known.processor, rows[:4], rows[4:], sizes=[1, 2], draws=20)
    aligned = found["sets"]["aligned"]
    assert tuple(aligned["heads"][0]) == known.head
    first, second = aligned["effects"]
    assert first["p"] == second["p"] == pytest.approx(1 / 21)
    assert first["expression"] > 3
    assert max(map(abs, first["random"]["expression"])) < 1e-4
    assert len(first["random"]["specific"]) == 20
    assert 0 < first["image_attention"] <= 1
    assert len(first["random"]["image_attention"]) == 20
    # Each random draw, by its rank among the others.
    for drawn in first["random"]["specific"]:
        others = [*first["random"]["specific"], first["specific"]]
        assert sum(each >= drawn for each in others) / len(others) > 0.05
    # Text without an image is not damaged.
    assert abs(first["text_only"]) < 0.05 * first["expression"]
    localization = found["sets"]["localization"]
    assert tuple(localization["heads"][0]) == known.head
    assert localization["effects"][0]["p"] == pytest.approx(1 / 21)
    least = found["sets"]["least aligned"]["effects"][0]
    assert abs(least["expression"]) < 1e-4
    assert least["p"] > 0.05


def test_localization_finds_the_planted_heads_boxes(known):
    votes, found = HeadVotes(skipped_layers=1, voted=1), []
    for row in planted_rows():
        sample = prepare(known.model, known.processor, row)
        (attention,) = token_attention(known.model, sample, [sample.evidence[0].tokens])
        maps = attention_maps(attention, sample.boxes, sample.images[0].size)
        votes.add(maps)
        layer, head = known.head
        box = locate(maps[layer, head][None], sample.images[0].size)
        (evidence,) = row["key_expressions"][0]["boxes"]
        found.append(box_iou([box], [evidence])[0, 0])
        # Smoothing by a patch makes the box a patch larger on each side, of eight patches across.
        assert all(box[i] - 1 <= evidence[i] for i in (0, 1))
        assert all(box[i] + 1 >= evidence[i] for i in (2, 3))
    assert votes.ranked()[0] == known.head
    assert np.mean(found) > 0.3
