"""The ways people train: adapters, frozen parts, precision, compilation, padding, truncation, mixed batches."""

import copy

import peft
import pytest
import torch
from datasets import Dataset
from families import large_rows, make
from huggingface_hub import ModelCard
from training_steps import assert_same, checkpointing, first_batch, loss_and_gradients, trained_losses

from fivl_hf import FiVLTrainer
from fivl_hf.schema import FEATURES

ADAPTERS = {
    "LoRA, head frozen": peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    "LoRA, head trained": peft.LoraConfig(
        r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"
    ),
    "DoRA": peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], use_dora=True, task_type="CAUSAL_LM"),
    "all linear layers": peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters(name, model, processor, dataset, config):
    """Only the adapter is trained, the loss is the joint one, and what is saved loads again."""
    trainer = FiVLTrainer(
        model,
        config(max_steps=8, learning_rate=2e-2, vision_loss_weight=0.5),
        train_dataset=dataset,
        processing_class=processor,
        peft_config=ADAPTERS[name],
    )
    before = {n: p.clone() for n, p in trainer.model.named_parameters()}
    trainer.train()
    changed = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all("lora_" in n or "modules_to_save" in n for n in changed)
    assert any("lm_head" in n for n in changed) == (name == "LoRA, head trained")
    logs = [entry for entry in trainer.state.log_history if "vision_loss" in entry]
    assert logs[-1]["vision_loss"] < logs[0]["vision_loss"]


def test_an_adapter_on_the_head_is_refused(model, processor, dataset, config):
    """TRL's own rule: its fused head reads the head's weights directly."""
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
    with pytest.raises(ValueError, match="adapter to `lm_head` is not supported"):
        FiVLTrainer(model, config(), train_dataset=dataset, processing_class=processor, peft_config=lora)


def test_an_adapter_is_saved_and_loaded(model, processor, dataset, config, tmp_path):
    from fivl_hf.models import load_model

    model.save_pretrained(tmp_path / "base")
    trainer = FiVLTrainer(
        str(tmp_path / "base"),
        config(max_steps=3, learning_rate=1e-1),
        train_dataset=dataset,
        processing_class=processor,
        peft_config=ADAPTERS["LoRA, head frozen"],
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    trainer.args.output_dir = str(tmp_path / "adapter")
    trainer.create_model_card()
    trainer.save_model(str(tmp_path / "adapter"))  # PEFT writes into a card that is there
    card = ModelCard.load(tmp_path / "adapter" / "README.md")
    assert str(tmp_path) not in str(card)
    assert "\n\n### Framework versions\n\n- PEFT " in card.text
    loaded, _ = load_model(tmp_path / "adapter", device="cpu")
    batch = {k: v for k, v in first_batch(trainer).items() if "labels" not in k}
    with torch.no_grad():
        assert torch.allclose(loaded(**batch).logits, trainer.model.eval()(**batch).logits, atol=1e-5)


def test_an_adapter_resumes(model, processor, dataset, config, tmp_path):
    def run(folder, steps, resume=None):
        args = config(**checkpointing(tmp_path / folder, steps), learning_rate=1e-2)
        trainer = FiVLTrainer(
            copy.deepcopy(model), args, train_dataset=dataset, processing_class=processor, peft_config=ADAPTERS["DoRA"]
        )
        return trained_losses(trainer, resume)

    straight = run("straight", 6)
    run("halves", 4)
    assert run("halves", 6, str(tmp_path / "halves" / "checkpoint-4")) == pytest.approx(straight, abs=1e-5)


def test_qlora(model, processor, dataset, config):
    pytest.importorskip("bitsandbytes", reason="QLoRA needs bitsandbytes, which is not installed here")
    from transformers import BitsAndBytesConfig, LlavaForConditionalGeneration

    folder = config().output_dir
    model.save_pretrained(folder)
    quantized = LlavaForConditionalGeneration.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(load_in_4bit=True)
    )
    trainer = FiVLTrainer(
        quantized,
        config(max_steps=2),
        train_dataset=dataset,
        processing_class=processor,
        peft_config=ADAPTERS["all linear layers"],
    )
    trainer.train()
    assert trainer.state.log_history[0]["vision_loss"] > 0


@pytest.mark.parametrize("frozen", ["vision_tower", "multi_modal_projector", "lm_head"])
def test_frozen_parts_stay_as_they_are(frozen, model, processor, dataset, config):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = frozen not in name
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trainer = FiVLTrainer(model, config(), train_dataset=dataset, processing_class=processor)
    trainer.train()
    changed = {name for name, parameter in trainer.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed
    assert not any(frozen in name for name in changed)


def first_losses(trainer):
    trainer.train()
    log = trainer.state.log_history[0]
    return [log["loss"], log["language_loss"], log["vision_loss"]]


def test_bfloat16_autocast(model, processor, dataset, config):
    exact, rough = (
        first_losses(
            FiVLTrainer(copy.deepcopy(model), config(bf16=bf16), train_dataset=dataset, processing_class=processor)
        )
        for bf16 in (False, True)
    )
    assert rough == pytest.approx(exact, rel=2e-2)
    assert rough != exact


def test_half_the_weights_bits(model, processor, dataset, config):
    """A model that is bfloat16 itself."""
    trainer = FiVLTrainer(
        model.to(torch.bfloat16), config(max_steps=3), train_dataset=dataset, processing_class=processor
    )
    trainer.train()
    assert all(entry["vision_loss"] > 0 for entry in trainer.state.log_history if "vision_loss" in entry)


def test_compiled(model, processor, dataset, config):
    """One graph backend without a C compiler: what is checked is that the joint loss survives tracing."""
    plain, compiled = (
        FiVLTrainer(copy.deepcopy(model), config(**options), train_dataset=dataset, processing_class=processor)
        for options in ({}, {"torch_compile": True, "torch_compile_backend": "aot_eager"})
    )
    for trainer in (plain, compiled):
        trainer.train()
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (plain, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    torch._dynamo.reset()


def test_left_padding_changes_nothing(model, processor, rows, config):
    """A collator of one's own may pad on the left."""
    short = copy.deepcopy(rows[0])
    short["messages"], short["key_expressions"], short["masks"] = short["messages"][:2], [], []
    data = Dataset.from_list([short, rows[1]], features=FEATURES)
    trainer = FiVLTrainer(model, config(), train_dataset=data, processing_class=processor)
    batch = trainer.data_collator([dict(data[0]), dict(data[1])])
    left = {key: value.clone() for key, value in batch.items()}
    for i, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        for key in ("input_ids", "attention_mask", "labels", "vision_labels"):
            left[key][i] = batch[key][i].roll(batch[key].shape[1] - length)
    assert not torch.equal(left["input_ids"], batch["input_ids"])
    model.eval()
    losses = [trainer.compute_loss(model, dict(b)).item() for b in (batch, left)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_padding_to_a_multiple(model, processor, dataset, config):
    plain, padded = (
        FiVLTrainer(
            copy.deepcopy(model), config(pad_to_multiple_of=multiple), train_dataset=dataset, processing_class=processor
        )
        for multiple in (None, 64)
    )
    assert first_batch(padded)["vision_labels"].shape[1] % 64 == 0
    assert_same(loss_and_gradients(padded), loss_and_gradients(plain), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["LLaVA-1.5, crop", "Qwen2.5-VL", "Idefics3"])
def test_truncation_that_cuts_image_tokens_says_what_to_do(name, rows, config):
    processor, model = make(name)
    data = Dataset.from_list(large_rows(rows[:4]), features=FEATURES)
    trainer = FiVLTrainer(model, config(max_length=12), train_dataset=data, processing_class=processor)
    with pytest.raises(ValueError, match=r"max_length \(12\) cuts off image tokens of a row among .*None"):
        trainer.train()


def test_what_a_processor_refuses_names_the_row(processor, model, rows, config):
    """A question with a literal placeholder has more placeholders than images."""
    rows = copy.deepcopy(rows[:3])
    rows[1]["messages"][0]["content"] = "What does <image> mean?"
    data = Dataset.from_list(rows, features=FEATURES)
    collator = FiVLTrainer(model, config(), train_dataset=data, processing_class=processor).data_collator
    with pytest.raises(ValueError, match=f"row {rows[1]['id']!r}: .*image"):
        collator([dict(row) for row in data])


def mixed_rows(rows):
    """Text alone, one image, two images with evidence in both, one image without evidence."""
    rows = copy.deepcopy(large_rows(rows[:4]))
    rows[0] |= {"images": [], "key_expressions": [], "masks": []}
    first, second = rows[1]["key_expressions"][0], rows[2]["key_expressions"][0]
    through_question = {"start": -1, "end": -1, "turn": 0}
    both = {
        "images": [*rows[1]["images"], *rows[2]["images"]],
        "messages": [
            {"role": "user", "content": f"Where are {first['text']} and {second['text']}?"},
            {"role": "assistant", "content": "There."},
        ],
        "key_expressions": [{**first, **through_question}, {**second, **through_question, "image": 1}],
        "masks": [rows[1]["masks"][0], rows[2]["masks"][0]],
    }
    rows[2] |= both
    rows[3] |= {"key_expressions": [], "masks": []}
    return rows


@pytest.mark.parametrize(
    "name",
    ["LLaVA-1.5, pad", "LLaVA-NeXT", "LLaVA-OneVision", "Qwen2.5-VL", "Qwen3-VL", "Idefics3", "InternVL", "Gemma 3",
     "PaliGemma", "Pixtral", "Mistral 3"],
)  # fmt: skip
def test_mixed_batches(name, rows, config):
    """Text alone, one image and two in one batch: as many boxes as tokens, and evidence in both images labelled."""
    processor, model = make(name)
    data = Dataset.from_list(mixed_rows(rows), features=FEATURES)
    args = config(max_steps=2, vision_max_coverage=1.0)
    trainer = FiVLTrainer(model, args, train_dataset=data, processing_class=processor)
    batch = trainer.data_collator([dict(row) for row in data])
    for i, row in enumerate(data):
        answers = "".join(m["content"] for m in row["messages"] if m["role"] == "assistant")
        kept = processor.tokenizer.decode(batch["labels"][i][batch["labels"][i] >= 0])
        assert kept.replace("</s>", "").replace(" ", "") == answers.replace(" ", "")
    found = (batch["vision_labels"] != -100).sum(dim=1).tolist()
    assert found[0] == found[3] == 0
    assert found[1] > 0
    here = batch["vision_labels"][2][batch["input_ids"][2] == trainer._image_token_id]
    half = len(here) // 2
    assert (here[:half] != -100).any()
    assert (here[half:] != -100).any()
    trainer.train()
    assert trainer.state.log_history[0]["vision_loss"] > 0


def test_streamed_rows_train_alike(model, processor, dataset, config):
    losses = []
    for data in (dataset, dataset.to_iterable_dataset()):
        args = config(max_steps=3, train_sampling_strategy="sequential")
        trainer = FiVLTrainer(copy.deepcopy(model), args, train_dataset=data, processing_class=processor)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
