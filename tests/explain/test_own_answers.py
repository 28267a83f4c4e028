from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from fivl_hf.explain.analysis import explain_rows
from fivl_hf.explain.observation import token_attention
from fivl_hf.explain.own_answers import with_own_answers
from fivl_hf.explain.samples import prepare, prepare_batch, readable
from fivl_hf.masks import encode_mask


@pytest.fixture
def written_answers(monkeypatch):
    """What the model writes in its turns."""
    answers = []
    monkeypatch.setattr(
        "fivl_hf.explain.own_answers.greedy_answers", lambda _, __, prompts, ___: [answers.pop(0) for _ in prompts]
    )
    return answers


def test_expressions_are_looked_for_in_what_the_model_says(model, processor, rows, written_answers):
    """The smallest mask of a turn stays; what is not said goes; parts of words count, as in the paper's code."""
    size = prepare(model, processor, rows[0]).evidence[0].mask.shape
    asked = (("ring", 0, 20), ("Red", 0, 8), ("cup", 1, 12), ("star", 1, 4))
    masks, expressions = [], []
    for text, turn, side in asked:
        mask = np.zeros(size, dtype=bool)
        mask[:side, :side] = True
        masks.append(encode_mask(mask))
        first = rows[0]["key_expressions"][0]
        expressions.append({**first, "text": text, "turn": turn, "start": -1, "end": -1, "keywords": [text]})
    messages = [
        {"role": "user", "content": "ring Red"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "cup star"},
        {"role": "assistant", "content": "x"},
    ]
    written_answers += ["A coloured ring.", "Two cups."]
    raw = {**rows[0], "messages": messages, "key_expressions": expressions, "masks": masks}
    (own,) = with_own_answers(model, processor, [readable(raw)])
    assert [turn.answer for turn in own.row.turns] == ["A coloured ring.", "Two cups."]
    found = [(each.text, each.start, each.end) for each in own.row.key_expressions]
    assert found == [("red", 7, 10), ("cup", 4, 7)]
    assert own.row.masks == (masks[1], masks[2])
    prepare_batch(model, processor, [own])


def test_tokens_are_correlated_one_by_one(model, processor, rows, written_answers):
    """By hand: the mean of each token's correlation, not the correlation of their mean."""
    row = rows[0]
    written_answers += [message["content"] for message in row["messages"] if message["role"] == "assistant"]
    answers = list(written_answers)
    (scores,) = explain_rows(model, processor, [row], protocol="paper")
    written_answers += answers
    (sample,) = prepare_batch(model, processor, with_own_answers(model, processor, [readable(row)]))
    evidence = sample.evidence[0]
    attention = token_attention(model, sample, list(evidence.tokens[:, None]))
    assert len(attention) > 1
    by_token = [
        [[spearmanr(head, evidence.coverage).statistic for head in layer] for layer in each] for each in attention
    ]
    assert np.allclose(scores.expressions[0].alignment, np.mean(by_token, axis=0), atol=1e-5)
    turns = {each["turn"] for each in row["key_expressions"]}
    assert len(scores.expressions) <= len(turns)


def test_a_model_answers_for_itself(model, processor, rows):
    """Rows of different numbers of turns, together and alone."""
    given = [readable(row) for row in rows[:4]]
    given[1] = replace(given[1], row=replace(given[1].row, turns=given[1].row.turns[:1], key_expressions=(), masks=()))
    own = with_own_answers(model.eval(), processor, given)
    for before, after in zip(given, own, strict=True):
        (alone,) = with_own_answers(model, processor, [before])
        assert after.row.turns == alone.row.turns
        assert [turn.question for turn in after.row.turns] == [turn.question for turn in before.row.turns]
        assert all(turn.answer for turn in after.row.turns)


def test_letters_that_change_their_length_do_not_shift_the_place(model, processor, rows, written_answers):
    written_answers += ["İİİ Red ring here."] * 4
    expression = {**rows[0]["key_expressions"][0], "text": "red ring", "turn": 0, "start": -1, "end": -1}
    question = {"role": "user", "content": "Is there a red ring?"}
    messages = [question, *rows[0]["messages"][1:]]
    raw = {**rows[0], "messages": messages, "key_expressions": [expression], "masks": rows[0]["masks"][:1]}
    (own,) = with_own_answers(model, processor, [readable(raw)])
    assert [each.text for each in own.row.key_expressions] == ["Red ring"]
