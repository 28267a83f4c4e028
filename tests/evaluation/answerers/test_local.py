import pytest
import torch

from fivl_hf.chat import as_blocks, encode
from fivl_hf.evaluation.answerers.local import TransformersAnswerer
from fivl_hf.evaluation.answerers.protocol import Generated
from fivl_hf.evaluation.plan import Plan
from fivl_hf.evaluation.questions import questions


def test_batched_answers_equal_answers_one_by_one(model, processor, rows):
    plan = Plan(rows[:7], ["original", "text-only"])
    batched, alone = (
        {
            (request.id, request.condition): (generated.text, generated.finish_reason)
            for request, generated in TransformersAnswerer(model, processor, size, max_new_tokens=5).answers(plan)
        }
        for size in (3, 1)
    )
    assert len(batched) == 14
    assert batched == alone
    assert {reason for _, reason in batched.values()} <= {"stop", "length"}


def test_generation_options_and_how_an_answer_ended(model, processor, rows, monkeypatch):
    given = []

    def generate(input_ids, **options):
        given.append(options)
        end = torch.full((len(input_ids), 1), processor.tokenizer.eos_token_id)
        word = torch.full((len(input_ids), 1), processor.tokenizer.encode("ring", add_special_tokens=False)[0])
        return torch.cat([input_ids, word, end if len(given) == 1 else word], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    monkeypatch.setattr(model.generation_config, "eos_token_id", processor.tokenizer.eos_token_id)
    answerer = TransformersAnswerer(model, processor, 1, max_new_tokens=2, generation={"num_beams": 3})
    first, second = (generated for _, generated in answerer.answers(Plan(rows[:2], ["original"])))
    assert (first.finish_reason, second.finish_reason) == ("stop", "length")
    assert first.latency > 0
    assert (given[0]["num_beams"], given[0]["do_sample"], given[0]["max_new_tokens"]) == (3, False, 2)
    assert answerer.identity["generation"] == {"num_beams": 3}
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        TransformersAnswerer(model, processor, 0)


def test_answers_are_the_greedy_continuation(model, processor, rows):
    (question,) = questions(rows[:1])
    messages = as_blocks(question.messages, 1)
    ids = encode(processor, [messages], [question.images()], prompt=True).inputs
    with torch.no_grad():
        best = model(**ids).logits[0, -1].argmax()
    ((_, answer),) = TransformersAnswerer(model, processor, max_new_tokens=1).answers(Plan(rows[:1], ["original"]))
    assert isinstance(answer, Generated)
    assert answer.text == processor.tokenizer.decode([best], skip_special_tokens=True).strip()
