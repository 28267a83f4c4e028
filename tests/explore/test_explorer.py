import numpy as np
import pytest
import torch

from fivl_hf.explain.lens import logit_lens
from fivl_hf.explain.observation import token_attention
from fivl_hf.explore.explorer import CHANGES, Reliance
from fivl_hf.images import open_rgb

QUESTION = "What shape is red?"


@pytest.fixture
def asked(explorer, rows):
    return explorer.ask(open_rgb(rows[0]["images"][0]), QUESTION)


def test_words_are_the_answers_with_attention_and_log_probability(explorer, asked):
    assert [asked.answer[word.start : word.end] for word in asked.words] == asked.answer.split()
    assert all(word.log_probability < 0 for word in asked.words)
    assert {each.shape for each in asked.attention} == {(explorer.layers, explorer.heads, 25)}
    again = token_attention(explorer.model, asked.sample, [asked.words[0].tokens])
    assert np.allclose(asked.attention[0], again[0], atol=1e-3)


@torch.inference_mode()
def test_a_words_log_probability_is_the_models(explorer, asked):
    inputs = asked.sample.inputs
    logits = explorer.model(**inputs).logits[0].float().log_softmax(-1)
    for word in asked.words:
        ids = inputs["input_ids"][0, word.tokens]
        expected = sum(logits[place - 1, id] for place, id in zip(word.tokens.tolist(), ids.tolist(), strict=True))
        assert word.log_probability == pytest.approx(float(expected), abs=1e-4)


def test_a_place_is_seen_by_its_smallest_token(asked):
    # Scenes are 40 × 40, seen by 5 × 5 tokens.
    assert asked.token_at(0, 0) == 0
    assert asked.token_at(39.9, 0) == 4
    assert asked.token_at(20, 39.9) == 22
    assert asked.token_at(41, 0) is None


def test_predictions_are_those_of_the_lens(explorer, asked):
    every = explorer.predictions(asked, 7)
    assert len(every) == explorer.layers
    for layer, shown in enumerate(every):
        probabilities = [probability for _, probability in shown]
        assert len(shown) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        top = explorer.processor.tokenizer.convert_tokens_to_ids(shown[0][0].replace(" ", "Ġ"))
        lens = logit_lens(explorer.model, asked.sample, [top])
        assert lens.ranks[layer, 0, 7] == 1
        assert np.exp(lens.log_probabilities[layer, 0, 7]) == pytest.approx(probabilities[0], rel=1e-4)


def test_a_changed_image_is_asked_about_again(explorer, asked):
    whole = (0.0, 0.0, 40.0, 40.0)
    same = explorer.changed(asked, (whole,), "keep only")
    assert same.answer == asked.answer
    assert same.log_probabilities == pytest.approx([word.log_probability for word in asked.words], abs=1e-4)
    pixels = {}
    for how in CHANGES:
        changed = explorer.changed(asked, ((0.0, 0.0, 20.0, 40.0),), how)
        assert len(changed.log_probabilities) == len(asked.words)
        pixels[how] = np.asarray(changed.image)
    original = np.asarray(asked.image)
    assert not pixels["black out"][:, :20].any()
    assert np.array_equal(pixels["black out"][:, 20:], original[:, 20:])
    assert not pixels["keep only"][:, 20:].any()
    assert np.array_equal(pixels["keep only"][:, :20], original[:, :20])
    assert explorer.changed(asked, (whole,), "black out") is explorer.changed(asked, (whole,), "black out")


def test_reliance_beside_random_boxes(explorer, asked):
    box = (0.0, 0.0, 16.0, 16.0)
    found = explorer.reliance(asked, (box,))
    without = explorer.changed(asked, (box,), "black out")
    assert found.answer == without.answer
    assert found.drop == pytest.approx(asked.log_probability - sum(without.log_probabilities), abs=1e-3)
    assert len(found.random_drops) == 20
    assert Reliance("b", False, 1.0, 15, (0.0,) * 20).score == 1
    assert Reliance("b", False, 1.0, 15, (0.0,) * 20).random_score == 0.25
    assert Reliance("a", True, 1.0, 20, (0.0,) * 20).score == 0


def test_what_cannot_be_asked(explorer, asked):
    for question in ("  ", "x" * 2001):
        with pytest.raises(ValueError, match="a question of 1 to 2,000 characters is needed"):
            explorer.ask(asked.image, question)
    with pytest.raises(ValueError, match="the special token"):
        explorer.ask(asked.image, f"What is {explorer.processor.tokenizer.all_special_tokens[0]}?")


def test_an_empty_answer_is_shown_as_one(explorer, asked, monkeypatch):
    monkeypatch.setattr("fivl_hf.explore.explorer.greedy_answers", lambda *_: [""])
    empty = explorer.ask(asked.image, QUESTION)
    assert (empty.answer, empty.words, empty.attention) == ("", (), ())
