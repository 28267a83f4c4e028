from dataclasses import asdict

import numpy as np
import pytest
import torch

from fivl_hf.explain import effects as module
from fivl_hf.explain.effects import AnswerBatches, effects, read_answers
from fivl_hf.explain.knockout import knock_out
from fivl_hf.explain.samples import prepare
from fivl_hf.images import black_out, image_bytes, open_rgb


def test_an_effect_is_the_fall_of_log_probabilities(model, processor, rows):
    """By hand: the mean over the expressions' tokens, the other answer tokens, and all of them without the image."""
    model.eval()
    samples = [prepare(model, processor, row) for row in rows[:2]]
    text = [prepare(model, processor, {**row, "images": [], "key_expressions": [], "masks": []}) for row in rows[:2]]
    heads = [(0, 0), (1, 2)]

    def log_probabilities(sample):
        ids = sample.inputs["input_ids"][0]
        logits = model(**sample.inputs, use_cache=False).logits[0].log_softmax(-1).detach()
        return {place: float(logits[place - 1, ids[place]]) for place in range(1, len(ids))}

    def answer(sample):
        places = set()
        for span in sample.encoded.answers[0]:
            for place, (start, end) in enumerate(sample.encoded.offsets[0]):
                if start < span.end and end > span.text_start and end > start:
                    places.add(place)
        return places

    plain = [log_probabilities(sample) for sample in [*samples, *text]]
    with knock_out(model, heads):
        under = [log_probabilities(sample) for sample in [*samples, *text]]
    falls = [{place: a[place] - b[place] for place in a} for a, b in zip(plain, under, strict=True)]
    inside = [{int(token) for evidence in sample.evidence for token in evidence.tokens} for sample in samples]
    pairs = list(zip(samples, falls, inside, strict=False))
    expression = [fall[place] for _, fall, own in pairs for place in own]
    other = [fall[place] for sample, fall, own in pairs for place in answer(sample) - own]
    alone = [fall[place] for sample, fall in zip(text, falls[2:], strict=True) for place in answer(sample)]
    ((name, found),) = effects(model, AnswerBatches(model, processor, rows[:2]), {("aligned", 2, -1): heads})
    assert name == ("aligned", 2, -1)
    assert found.expression == pytest.approx(np.mean(expression), abs=1e-5)
    assert found.other == pytest.approx(np.mean(other), abs=1e-5)
    assert found.text_only == pytest.approx(np.mean(alone), abs=1e-5)
    assert found.specific == pytest.approx(found.expression - found.other)


@torch.inference_mode()
def test_accuracy_is_of_expressions_whose_tokens_all_come_first(model, processor, rows):
    """By hand, on the images as they are and with the boxes blacked out."""
    right = {False: [], True: []}
    for row in rows[:6]:
        for masked in right:
            images = [open_rgb(image) for image in row["images"]]
            if masked:
                images = [black_out(images[0], [box for each in row["key_expressions"] for box in each["boxes"]])]
            given = {**row, "images": [{"bytes": image_bytes(image), "path": None} for image in images]}
            sample = prepare(model.eval(), processor, given)
            first = model(**sample.inputs).logits[0].argmax(-1)
            for evidence in sample.evidence:
                right[masked].append(
                    all(first[token - 1] == sample.token_ids[token] for token in evidence.tokens.tolist())
                )
    found = read_answers(model, AnswerBatches(model, processor, rows[:6]))
    assert found.accuracy == np.mean(right[False])
    assert found.masked_accuracy == np.mean(right[True])
    assert found.n == len(right[False])


def test_what_is_not_kept_is_encoded_again(model, processor, rows, monkeypatch):
    kept = read_answers(model.eval(), AnswerBatches(model, processor, rows[:6], batch_size=2))
    alone = read_answers(model, AnswerBatches(model, processor, rows[:6], batch_size=1))
    assert asdict(kept) == pytest.approx(asdict(alone), abs=1e-5)
    monkeypatch.setattr(module, "_KEPT", 0)
    batches = AnswerBatches(model, processor, rows[:6], batch_size=2)
    assert read_answers(model, batches) == read_answers(model, batches) == kept
    assert not batches._kept
