import copy

import numpy as np
import peft
import pytest
import torch
from datasets import Dataset
from families import FAMILIES, enlarge, large_rows, make
from training_steps import assert_same, checkpointing, first_batch, loss_and_gradients, sft_config, trained_losses
from trl import SFTTrainer

from fivl_hf import FiVLTrainer, vision_modeling_loss
from fivl_hf.chat import as_blocks, encode
from fivl_hf.evaluation.runner import evaluate_reliance
from fivl_hf.explain.analysis import explain, explain_rows
from fivl_hf.explain.observation import token_attention, vision_predictions
from fivl_hf.explain.pictures import attention_picture, evidence_sheet
from fivl_hf.explain.probe import record_attention
from fivl_hf.explain.runner import explanation_summary
from fivl_hf.explain.samples import prepare
from fivl_hf.images import open_image
from fivl_hf.schema import FEATURES
from fivl_hf.training.collator import FiVLCollator

TRAINABLE = [name for name in FAMILIES if name != "Mllama"]


@pytest.fixture(scope="module")
def big_rows(rows):
    return large_rows(rows[:8])


@pytest.fixture(scope="module")
def big_dataset(big_rows):
    return Dataset.from_list(big_rows, features=FEATURES)


@pytest.mark.parametrize("name", FAMILIES)
def test_lambda_zero_is_sft_exactly(name, big_dataset, config, record_property):
    record_property("table", (name, "λ = 0 parity"))
    processor, model = make(name)
    ours = FiVLTrainer(
        copy.deepcopy(model),
        config(vision_loss_weight=0.0, assistant_only_loss=False),
        train_dataset=big_dataset,
        processing_class=processor,
    )
    theirs = SFTTrainer(
        model,
        sft_config(config(assistant_only_loss=False)),
        train_dataset=big_dataset,
        processing_class=processor,
    )
    assert_same(loss_and_gradients(ours), loss_and_gradients(theirs))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_text_loss_is_on_the_answers(name, big_rows):
    """Whatever a processor puts before, between and after the words it is given; also in a batch of text alone."""
    processor, model = make(name)
    collator = FiVLCollator(processor=processor, model_config=model.config, answers_only=True, vision_modeling=False)
    alone = {**big_rows[1], "images": [], "key_expressions": [], "masks": []}
    for rows in ([big_rows[0]], [alone]):
        labels = collator([dict(row) for row in rows])["labels"][0]
        answers = [m["content"] for m in rows[0]["messages"] if m["role"] == "assistant"]
        kept = processor.tokenizer.decode(labels[labels >= 0])
        assert kept.replace(" ", "") == "".join(f"{answer}</s>" for answer in answers).replace(" ", "")


@pytest.mark.parametrize("name", TRAINABLE)
def test_both_tasks_are_learnt(name, big_dataset, config, record_property):
    """The fused loss is that of two cross-entropies over full logits, and training lowers it."""
    record_property("table", (name, "train step"))
    processor, model = make(name)
    trainer = FiVLTrainer(
        copy.deepcopy(model),
        config(max_steps=8, learning_rate=1e-2, vision_loss_weight=0.5),
        train_dataset=big_dataset,
        processing_class=processor,
    )
    batch = first_batch(trainer)
    inputs = {k: v for k, v in batch.items() if k not in ("labels", "vision_labels")}
    logits = model.train()(**inputs).logits
    expected = vision_modeling_loss(logits, batch["labels"], batch["vision_labels"], vision_loss_weight=0.5)
    trainer.model.train()
    fused = trainer.compute_loss(trainer.model, dict(batch))
    if trainer.aux_loss_enabled:
        # The router's loss has its own coefficient, which λ does not scale.
        expected = expected + 0.1 * model(**inputs, output_router_logits=True).aux_loss
    assert fused.item() == pytest.approx(expected.item(), rel=1e-5)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "vision_loss" in entry]
    assert logs[-1]["vision_loss"] < logs[0]["vision_loss"]
    assert logs[-1]["language_loss"] < logs[0]["language_loss"]
    assert all(0.05 < entry["labelled_patches"] < 0.6 for entry in logs)


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_resumed_training_goes_on_as_if_uninterrupted(name, big_dataset, config, tmp_path, record_property):
    """Checkpoints of many families name their weights otherwise than the model does."""
    record_property("table", (name, "resume"))

    def run(folder, steps, resume=None):
        processor, model = make(name)
        args = config(**checkpointing(tmp_path / folder, steps), learning_rate=1e-2)
        trainer = FiVLTrainer(model, args, train_dataset=big_dataset, processing_class=processor)
        return trained_losses(trainer, resume)

    straight = run("straight", 4)
    run("halves", 2)
    resumed = run("halves", 4, str(tmp_path / "halves" / "checkpoint-2"))
    assert resumed == pytest.approx(straight, abs=1e-4)


def test_mllama_is_refused_with_the_reason(big_dataset, config):
    processor, model = make("Mllama")
    with pytest.raises(ValueError, match="no visual tokens in its sequence .*cross-attention.*vision_loss_weight=0"):
        FiVLTrainer(model, config(), train_dataset=big_dataset, processing_class=processor)


def eager_attention(model, inputs, layer):
    """(H, T, S) of one layer, by the model's own eager attention."""
    model.set_attn_implementation("eager")
    attentions = model(**inputs, output_attentions=True, use_cache=False).attentions
    return attentions[layer][0]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_probe_records_what_eager_attention_computes(name, big_rows, record_property):
    record_property("table", (name, "head probe"))
    processor, model = make(name)
    enlarge(model)
    model.eval()
    sample = prepare(model, processor, big_rows[0])
    tokens = sample.evidence[0].tokens
    assert len(tokens)
    rows, columns = torch.from_numpy(tokens - 1)[None], sample.image_positions[None]
    with torch.inference_mode():
        own = model(**sample.inputs, use_cache=False).logits
        with record_attention(model, rows, columns) as recorded:
            probed = model(**sample.inputs, use_cache=False).logits
        assert torch.equal(own, probed)
        for layer, found in recorded.layers.items():
            expected = eager_attention(model, sample.inputs, layer)
            torch.testing.assert_close(found[0], expected[:, rows[0]][..., columns[0]], rtol=1e-4, atol=1e-5)
        eager = model(**sample.inputs, use_cache=False).logits
    torch.testing.assert_close(probed, eager, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_and_segments_are_measured_and_drawn(name, big_rows, tmp_path, record_property):
    record_property("table", (name, "segmentation"))
    processor, model = make(name)
    result = explanation_summary(explain(model.eval(), processor, big_rows[:4]))
    assert {"layer", "head", "score", "control", "chosen_by"} == result["best_head"].keys()
    best = result["best_head"]
    assert -1 <= best["score"] <= 1
    two_scales = name in ("LLaVA-NeXT", "LLaVA-OneVision", "Idefics3", "SmolVLM", "InternVL")
    if two_scales:
        assert result["by_scale"]["tiles"]["n"] == result["by_scale"]["whole"]["n"] == result["n"]
    sample = prepare(model, processor, big_rows[0])
    drawing = evidence_sheet(model, sample, 0, best["layer"], best["head"])
    assert drawing.height > 200
    if name == "Mllama":
        assert result["segmentation"]["iou"] is None
        assert vision_predictions(model, sample) is None
        assert [row[0] is None for row in result["alignment"]] == [True, False, True, False]
        with pytest.raises(ValueError, match="layer 0 does not look at the image"):
            attention_picture(model, sample, sample.evidence[0].tokens, 0, 0)
        return
    assert 0 <= result["segmentation"]["iou"] <= 1
    assert result["segmentation"]["n"] == result["n"] > 0
    logits = model(**sample.inputs).logits[0, sample.image_positions]
    assert np.array_equal(vision_predictions(model, sample), logits.argmax(-1).numpy())


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_are_explained_in_batches_as_alone(name, big_rows):
    """Rows of different lengths, padded on the right."""
    processor, model = make(name)
    enlarge(model)
    given = [dict(row) for row in big_rows[:3]]
    first, *others = given[0]["messages"]
    given[0]["messages"] = [
        {**first, "content": f"{first['content']} Look at the cup and the star, then say."},
        *others,
    ]
    alone, together = (
        {scores.id: scores for scores in explain_rows(model.eval(), processor, given, batch_size=size)}
        for size in (1, 3)
    )
    assert set(alone) == set(together) == {row["id"] for row in given}
    for id, scores in alone.items():
        for one, other in zip(scores.expressions, together[id].expressions, strict=True):
            assert one.skipped == other.skipped
            for a, b in [(one.alignment, other.alignment), (one.measures["auroc"], other.measures["auroc"])]:
                # Attention that is equal but for the last bits may change places.
                np.testing.assert_allclose(a, b, atol=0.02)
            np.testing.assert_allclose(one.measures["mass_lift"], other.measures["mass_lift"], rtol=1e-3)
            for kind in one.depth:
                np.testing.assert_allclose(one.depth[kind], other.depth[kind], rtol=0.02)


@pytest.mark.parametrize("name", FAMILIES)
def test_reliance_is_measured(name, big_rows, record_property):
    """Batches padded on the left, evidence blacked out; answers to a batch are those given one at a time."""
    record_property("table", (name, "reliance"))
    processor, model = make(name)
    enlarge(model)
    answers = [
        evaluate_reliance(model.eval(), processor, big_rows[:3], batch_size=size, max_new_tokens=4)[1]
        for size in (3, 1)
    ]
    together, alone = ({(a.id, a.condition): a.answer for a in table} for table in answers)
    assert together == alone
    assert len(together) == 9
    # An untrained model may say the same of everything, but what it would say next differs in its logits.
    questions = [as_blocks(row["messages"][:1], 1) for row in big_rows[:3]]
    questions[0][0]["content"][-1]["text"] = "What?"
    images = [[open_image(row["images"][0])] for row in big_rows[:3]]

    def next_logits(rows):
        inputs = encode(processor, *rows, prompt=True, padding=True, padding_side="left").inputs
        with torch.inference_mode():
            return model(**inputs).logits[:, -1]

    together = next_logits((questions, images))
    alone = torch.cat([next_logits(([q], [p])) for q, p in zip(questions, images, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)


def test_an_adapter_is_explained(big_rows):
    processor, model = make("Qwen2-VL")
    plain = explain(model.eval(), processor, big_rows[:2]).alignment.mean()
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    # A fresh adapter changes nothing.
    assert np.allclose(explain(adapted, processor, big_rows[:2]).alignment.mean(), plain, equal_nan=True)


def test_attention_out_of_reach_is_said_so(big_rows):
    processor, model = make("Qwen2-VL")

    class OwnAttention(torch.nn.Module):
        def forward(self, hidden_states, **kwargs):
            return hidden_states, None

    for layer in model.get_decoder().layers:
        layer.self_attn = OwnAttention()
    with pytest.raises(ValueError, match="do not go through transformers' attention interface"):
        explain(model.eval(), processor, big_rows[:1])


def test_processor_and_model_that_do_not_belong_together(big_dataset, config):
    processor, _ = make("LLaVA-1.5, crop")
    _, model = make("Qwen2-VL")
    with pytest.raises(ValueError, match="LlavaProcessor writes 0 visual tokens .*Do processor and model belong"):
        FiVLTrainer(model, config(), train_dataset=big_dataset, processing_class=processor)


@pytest.mark.parametrize("name", ["LLaVA-1.5, crop", "Qwen2.5-VL", "Gemma 3"])
def test_explained_in_bfloat16(name, big_rows):
    processor, model = make(name)
    sample = prepare(model.eval(), processor, big_rows[0])
    tokens = [sample.evidence[0].tokens]
    exact = token_attention(model, sample, tokens)[0]
    rough = token_attention(model.to(torch.bfloat16), sample, tokens)[0]
    assert rough.dtype == np.float32
    assert np.allclose(rough, exact, atol=0.02)
