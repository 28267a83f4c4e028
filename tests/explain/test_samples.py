from fivl_hf.explain.samples import prepare


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
