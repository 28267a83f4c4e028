import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from fivl_hf.explain.alignment import AlignmentMap, spearman
from fivl_hf.explain.analysis import explain, gather, token_attention, vision_predictions
from fivl_hf.explain.pictures import (
    attention_picture,
    evidence_sheet,
    last_place,
    segments_picture,
    word_tokens,
)
from fivl_hf.explain.runner import explanation_summary, write_explanation
from fivl_hf.explain.samples import prepare
from fivl_hf.explain.scores import ExpressionScores, RowScores
from fivl_hf.explain.segmentation import segmentation_scores, token_iou
from fivl_hf.show.drawing import outline_masks
from fivl_hf.show.plots import head_map, overlay_tokens, paint_tokens


def test_samples_find_the_expressions_tokens(model, processor, rows):
    for raw in rows[:6]:
        sample = prepare(model, processor, raw)
        ids = sample.inputs["input_ids"][0]
        for evidence in sample.evidence:
            assert processor.tokenizer.decode(ids[evidence.tokens]).strip() == evidence.expression.text
            assert processor.tokenizer.decode([evidence.keyword_id]).strip() == evidence.expression.keywords[-1]
        turns = [int(e.tokens[0]) for e in sorted(sample.evidence, key=lambda e: e.expression.turn)]
        assert turns == sorted(turns)


def test_an_expression_grounded_through_the_question_is_the_whole_answer(model, processor, rows):
    raw = {
        **rows[0],
        "messages": [
            {"role": "user", "content": "What is right of the red ring?"},
            {"role": "assistant", "content": "ring"},
        ],
    }
    raw["key_expressions"] = [{**rows[0]["key_expressions"][0], "turn": 0, "text": "red ring", "start": -1, "end": -1}]
    raw["masks"] = rows[0]["masks"][:1]
    sample = prepare(model, processor, raw)
    tokens = sample.evidence[0].tokens
    assert processor.tokenizer.decode(sample.inputs["input_ids"][0][tokens]).strip() == "ring"


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


def test_the_best_head_is_measured_on_other_images(model, processor, rows):
    """Chosen on one half of the images, scored on the other: no image is in both."""
    found = explain(model, processor, rows[:8])
    halves = {0: AlignmentMap(), 1: AlignmentMap()}
    for raw in rows[:8]:
        sample = prepare(model, processor, raw)
        half = int(hashlib.sha256(raw["images"][0]["bytes"]).hexdigest()[:8], 16) % 2
        attention = token_attention(model, sample, [evidence.tokens for evidence in sample.evidence])
        for evidence, heads in zip(sample.evidence, attention, strict=True):
            halves[half].add(spearman(heads, evidence.coverage))
    best, *_ = found.best_heads()
    chosen, held_out = halves[0].mean(), halves[1].mean()
    assert (best["layer"], best["head"]) == np.unravel_index(np.argmax(chosen), chosen.shape)
    assert best["chosen_by"] == pytest.approx(chosen.max())
    assert best["score"] == pytest.approx(held_out[best["layer"], best["head"]])
    assert best["control"] == pytest.approx(found.held_out_control.mean()[best["layer"], best["head"]])


def test_the_best_head_is_chosen_on_another_split(model, processor, rows):
    found, others = explain(model, processor, rows[:4]), explain(model, processor, rows[4:8])
    best = found.best_heads(1, chosen_on=others)[0]
    place = np.unravel_index(np.argmax(others.alignment.mean()), others.alignment.mean().shape)
    assert (best["layer"], best["head"]) == place
    assert best["score"] == found.alignment.mean()[place]
    assert best["control"] == found.control.mean()[place]


def test_the_best_of_many_random_heads_is_not_overrated():
    """Heads without any alignment: chosen and scored on the same images, one of 1,024 looks aligned."""
    generator = np.random.default_rng(0)
    rows = [
        RowScores(str(i), f"{i:08x}", (ExpressionScores(generator.normal(0, 0.3, (32, 32)), np.zeros((32, 32))),))
        for i in range(40)
    ]
    found = gather(rows)
    best, *_ = found.best_heads()
    assert found.alignment.mean().max() > 0.12
    assert best["chosen_by"] > 0.15
    assert abs(best["score"]) < 0.1


def test_a_chosen_word_is_followed(model, processor, rows, tmp_path):
    write_explanation(model, processor, rows[:4], tmp_path, pictures=4, word="There")
    saying = [row for row in rows[:4] if any("There" in m["content"] for m in row["messages"])]
    assert len(list((tmp_path / "pictures").glob("*.png"))) == len(saying)
    write_explanation(model, processor, rows[:4], tmp_path, pictures=1)
    assert [path.name for path in (tmp_path / "pictures").glob("*.png")] == ["000.png"]
    with pytest.raises(ValueError, match="no answer says 'zebra'"):
        write_explanation(model, processor, rows[:4], tmp_path, word="zebra")


def test_a_words_last_place_is_in_an_answer_and_whole():
    assert last_place(["It is red.", "A redder red, red?"], "red") == (1, 14)
    assert last_place(["It is red.", "Redder."], "red") == (0, 6)
    assert last_place(["redder"], "red") is None


def test_word_tokens_are_those_of_the_answer(model, processor, rows):
    said = ("What color is the ring?", "It is a red ring.", "What is above the red ring?", "There is a blue cross.")
    roles = ("user", "assistant") * 2
    messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    raw = {**rows[0], "messages": messages, "key_expressions": [], "masks": []}
    sample = prepare(model, processor, raw)
    (token,) = word_tokens(sample, "red")
    assert processor.tokenizer.decode(sample.inputs["input_ids"][0][: token + 2]).endswith("It is a red ring")


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
    assert scores == {"iou": 0.25, "n": 2, "detected": 0.5, "tokens_per_sample": 2.5, "skipped": 1}
    assert segmentation_scores([], [], [])["iou"] is None
    with pytest.raises(ValueError, match="sample 0"):
        segmentation_scores([[1, 2]], [[1]], [1])
    with pytest.raises(ValueError, match="one entry per sample"):
        segmentation_scores([[1]], [], [1])


def test_painting_by_hand():
    canvas = paint_tokens([1.0, 2.0, 3.0], [[0, 0, 2, 1], [2, 0, 4, 1], [np.nan] * 4], (4, 2))
    assert canvas[0].tolist() == [1, 1, 2, 2]
    assert np.isnan(canvas[1]).all()


def test_overlays_show_what_is_attended(rows):
    white = Image.new("RGB", (40, 40), "white")
    bright = np.asarray(
        overlay_tokens(white, [0.0, 1.0], [[0, 0, 20, 40], [20, 0, 40, 40]], side=40).convert("L")
    ).astype(float)
    assert bright[:, 20:].mean() > bright[:, :20].mean() + 50
    mask = np.zeros((40, 40), dtype=bool)
    mask[:20] = True
    dimmed = np.asarray(outline_masks(white, [mask], side=40).convert("L")).astype(float)
    assert dimmed[:20].mean() > dimmed[20:].mean() + 50


def test_head_map_frames_the_best_head():
    figure = head_map([[0.1, np.nan], [0.5, -0.2]], "T")
    (frame,) = [p for p in figure.axes[0].patches if p.get_linewidth() == 2]
    assert (frame.get_x() + 0.5, frame.get_y() + 0.5) == (0, 1)
    assert [t.get_text() for t in figure.axes[0].texts] == ["0.10", "0.50", "-0.20"]


def test_images_of_a_sample(model, processor, rows):
    sample = prepare(model, processor, rows[0])
    drawing = evidence_sheet(model, sample, 0, layer=0, head=0, side=80)
    assert drawing.width == 2 * 150 + 3 * 12
    assert drawing.height > 2 * 80 + 5 * 26
    assert segments_picture(model, sample, list(sample.evidence), side=80).size == (80, 80)
    word = word_tokens(sample, sample.evidence[0].expression.text)
    assert len(word) == 2
    attention_picture(model, sample, word, 0, 0)
    with pytest.raises(ValueError, match="2 layers of 4 heads"):
        attention_picture(model, sample, word, 2, 0)
    with pytest.raises(ValueError, match="'zebra' does not occur"):
        word_tokens(sample, "zebra")


def test_written_explanation(model, processor, rows, tmp_path):
    result = write_explanation(model, processor, rows[:3], tmp_path, pictures=2)
    written = json.loads((tmp_path / "explanation.json").read_text())
    assert written == json.loads(json.dumps(result))
    assert written["best_head"] == written["top_heads"][0]
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2
    assert Image.open(tmp_path / "head_map.png").width > 300
    bare = [{**rows[0], "key_expressions": [], "masks": []}]
    with pytest.raises(ValueError, match="no row has a key expression"):
        write_explanation(model, processor, bare, tmp_path)
