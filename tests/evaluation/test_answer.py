import torch

from fivl_hf.chat import as_blocks, encode
from fivl_hf.evaluation.answer import generate_answers
from fivl_hf.evaluation.questions import questions


def test_batched_answers_equal_answers_one_by_one(model, processor, rows):
    asked = list(questions(rows[:7]))
    asks = [(q.messages, q.images) for q in asked]
    batched = dict(generate_answers(model, processor, asks, batch_size=3, max_new_tokens=5))
    alone = [list(generate_answers(model, processor, [ask], batch_size=1, max_new_tokens=5)) for ask in asks]
    assert batched == {number: answer for number, [(_, answer)] in enumerate(alone)}


def test_answers_are_the_greedy_continuation(model, processor, rows):
    (question,) = questions(rows[:1])
    messages = as_blocks(question.messages, 1)
    ids = encode(processor, [messages], [question.images()], prompt=True).inputs
    with torch.no_grad():
        best = model(**ids).logits[0, -1].argmax()
    asks = [(question.messages, question.images)]
    ((_, answer),) = generate_answers(model, processor, asks, max_new_tokens=1)
    assert answer == processor.tokenizer.decode([best], skip_special_tokens=True).strip()
