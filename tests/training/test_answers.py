"""The text loss of conversations without images, as SFTTrainer puts it."""

import copy

import pytest
import torch
from datasets import Dataset
from training_steps import MARKED, first_batch, sft_config
from trl import SFTTrainer

from fivl_hf import FiVLTrainer
from fivl_hf.images import open_image


@pytest.fixture
def talks(rows):
    return Dataset.from_list([{"messages": row["messages"]} for row in rows])


@pytest.fixture
def pairs(rows):
    return Dataset.from_list([{"prompt": row["messages"][:1], "completion": row["messages"][1:2]} for row in rows])


@pytest.fixture
def marked(processor):
    marked = copy.deepcopy(processor)
    marked.chat_template = MARKED
    return marked


def both(model, args, data, processor):
    """FiVLTrainer and SFTTrainer on the same."""
    return (
        FiVLTrainer(copy.deepcopy(model), args, train_dataset=data, processing_class=processor),
        SFTTrainer(copy.deepcopy(model), sft_config(args), train_dataset=data, processing_class=processor),
    )


@pytest.mark.parametrize("kind", ["talks", "pairs"])
@pytest.mark.parametrize("answers", [True, False])
def test_text_alone_is_labelled_as_by_sft(model, marked, config, request, kind, answers):
    data = request.getfixturevalue(kind)
    ours, theirs = both(model, config(assistant_only_loss=answers), data, marked)
    assert torch.equal(first_batch(ours)["labels"], first_batch(theirs)["labels"])
    assert ours.evaluate(data)["eval_loss"] == theirs.evaluate(data)["eval_loss"]


def test_templates_without_markers_train_on_all_and_evaluate_alike(model, processor, config, talks, rows):
    args = config(assistant_only_loss=True)
    ours = FiVLTrainer(copy.deepcopy(model), args, train_dataset=talks, eval_dataset=talks, processing_class=processor)
    theirs = SFTTrainer(
        copy.deepcopy(model),
        sft_config(config(assistant_only_loss=False)),
        train_dataset=talks,
        processing_class=processor,
    )
    assert torch.equal(first_batch(ours)["labels"], first_batch(theirs)["labels"])
    # Given at the start or later, the same set has the same loss.
    assert ours.evaluate()["eval_loss"] == ours.evaluate(talks)["eval_loss"] == theirs.evaluate(talks)["eval_loss"]
    assert args.assistant_only_loss is True


def test_a_model_given_by_name_has_its_template(model, marked, config, talks, tmp_path):
    model.save_pretrained(tmp_path / "model")
    marked.save_pretrained(tmp_path / "model")
    args = config(assistant_only_loss=True)
    ours = FiVLTrainer(str(tmp_path / "model"), args, train_dataset=talks)
    theirs = SFTTrainer(str(tmp_path / "model"), sft_config(args), train_dataset=talks)
    labels = first_batch(ours)["labels"]
    assert torch.equal(labels, first_batch(theirs)["labels"])
    assert (labels == -100).float().mean() > 0.2


CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "ring"}}}
# Writes what a message says, and then the tools it calls.
CALLING = (
    "{% for message in messages %}{{ 'USER:' if message['role'] == 'user' else ' ASSISTANT:' }}"
    "{% for block in message['content'] or [] %}{% if block['type'] == 'image' %} <image>{% endif %}{% endfor %}"
    "{% for block in message['content'] or [] %}{% if block['type'] == 'text' %} {{ block['text'] }}{% endif %}"
    "{% endfor %}{% for call in message['tool_calls'] or [] %} what is {{ call['function']['name'] }}{% endfor %}"
    "{% if message['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


@pytest.mark.parametrize("content", [None, "", "It is"])
def test_tool_calls_are_answers(model, processor, config, rows, content):
    """Whatever its content, the whole of a calling turn is trained; nothing of the prompt is."""
    calling = copy.deepcopy(processor)
    calling.chat_template = CALLING
    call = {"role": "assistant", "content": content, "tool_calls": [CALL]}
    messages = [rows[0]["messages"][0], call, {"role": "tool", "content": "ring"}, rows[0]["messages"][1]]
    data = Dataset.from_list([{"images": [open_image(rows[0]["images"][0])], "messages": messages}] * 4)
    trainer = FiVLTrainer(model, config(vision_loss_weight=0.0), train_dataset=data, processing_class=calling)
    labels = first_batch(trainer)["labels"][0]
    kept = calling.tokenizer.decode(labels[labels >= 0])
    said = "" if content is None else f" {content}"
    assert kept == f"{said} what is<unk></s> {rows[0]['messages'][1]['content']}</s>"
    trainer.train()
    theirs = SFTTrainer(
        copy.deepcopy(model),
        sft_config(config(vision_loss_weight=0.0, assistant_only_loss=False)),
        train_dataset=data,
        processing_class=calling,
    )
    everything = FiVLTrainer(
        copy.deepcopy(model),
        config(vision_loss_weight=0.0, assistant_only_loss=False),
        train_dataset=data,
        processing_class=calling,
    )
    assert torch.equal(first_batch(everything)["labels"], first_batch(theirs)["labels"])
