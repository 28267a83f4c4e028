"""Heads knocked out, against models whose attention is changed by hand."""

import pytest
import torch
from attention_by_hand import output_projections
from peft import LoraConfig, get_peft_model

from fivl_hf.explain.knockout import knock_out, mean_outputs
from fivl_hf.explain.probe import record_attention
from fivl_hf.explain.samples import prepare


@pytest.fixture
def sample(model, processor, rows):
    return prepare(model.eval(), processor, rows[0])


def implementations(model):
    return {name: m.config._attn_implementation for name, m in model.named_modules() if hasattr(m, "config")}


@torch.inference_mode()
def test_nothing_is_left_behind(model, sample):
    before, plain = implementations(model), model(**sample.inputs).logits
    for how in ("zero", "edges"):
        with knock_out(model, [(0, 0), (1, 1)], how):
            assert not torch.allclose(model(**sample.inputs).logits, plain, atol=1e-4)
        assert implementations(model) == before
        assert torch.equal(model(**sample.inputs).logits, plain)
    with knock_out(model, []):
        assert torch.equal(model(**sample.inputs).logits, plain)
    with pytest.raises(RuntimeError, match="on purpose"), knock_out(model, [(0, 0)]):
        raise RuntimeError("on purpose")
    assert implementations(model) == before
    assert not model._forward_pre_hooks


@torch.inference_mode()
def test_a_mean_is_put_in_the_heads_place(model, sample):
    means = mean_outputs(model, [sample.inputs])
    seen = {}

    def keep(module, arguments):
        seen["input"] = arguments[0].view(*arguments[0].shape[:2], 4, -1)

    hook = output_projections(model)[1].register_forward_pre_hook(keep)
    model(**sample.inputs)
    plain = seen["input"]
    torch.testing.assert_close(means[1], plain.mean(dim=(0, 1)))
    with knock_out(model, [(1, 2)], "mean", means=means):
        model(**sample.inputs)
    hook.remove()
    expected = plain.clone()
    expected[:, :, 2] = means[1][2]
    torch.testing.assert_close(seen["input"], expected)
    # Tokens that only fill a batch up do not count.
    padded = {**sample.inputs, "attention_mask": sample.inputs["attention_mask"].clone()}
    padded["attention_mask"][:, -3:] = 0
    torch.testing.assert_close(mean_outputs(model, [padded])[0], first_tokens_mean(model, sample, 3))


def first_tokens_mean(model, sample, left_out):
    """Of the first layer: tokens before are not changed by those after."""
    kept = {}
    hook = output_projections(model)[0].register_forward_pre_hook(lambda _, arguments: kept.update(x=arguments[0]))
    model(**sample.inputs)
    hook.remove()
    heads = kept["x"].view(*kept["x"].shape[:2], 4, -1)
    return heads[:, :-left_out].mean(dim=(0, 1))


@torch.inference_mode()
def test_the_probe_sees_a_knocked_out_models_attention(model, sample):
    last = torch.tensor([[sample.inputs["input_ids"].shape[1] - 1]])
    columns = sample.image_positions[None]
    with record_attention(model, last, columns) as plain:
        model(**sample.inputs)
    with knock_out(model, [(0, 0), (0, 1)]), record_attention(model, last, columns) as under:
        changed = model(**sample.inputs).logits
    with record_attention(model, last, columns) as other, knock_out(model, [(0, 0), (0, 1)]):
        assert torch.equal(model(**sample.inputs).logits, changed)
    assert torch.equal(plain.layers[0], under.layers[0])
    assert not torch.allclose(plain.layers[1], under.layers[1], atol=1e-4)
    assert torch.equal(under.layers[1], other.layers[1])


@torch.inference_mode()
@pytest.mark.parametrize("how", ["zero", "edges"])
def test_answers_are_generated_without_the_heads(model, processor, sample, how):
    """With a cache of keys, token by token, as in one pass over the whole."""
    prompt = {**sample.inputs, "input_ids": sample.inputs["input_ids"][:, :-4]}
    prompt["attention_mask"] = sample.inputs["attention_mask"][:, :-4]
    heads = [(0, 0), (0, 3), (1, 1)]
    with knock_out(model, heads, how):
        made = model.generate(
            **prompt, max_new_tokens=4, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        whole = {**prompt, "input_ids": made.sequences, "attention_mask": torch.ones_like(made.sequences)}
        logits = model(**whole).logits[0]
    for step, found in enumerate(made.logits):
        place = prompt["input_ids"].shape[1] + step - 1
        torch.testing.assert_close(found[0], logits[place], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("heads", "how", "message"),
    [
        ([(7, 0)], "zero", "layer 7, head 0: the model has 2 layers of 4 heads, counted from 0"),
        ([(0, 0)], "half", "how must be zero, mean or edges, got 'half'"),
        ([(0, 0)], "mean", "no mean output of layer 0 is given"),
    ],
)
def test_mistakes(model, heads, how, message):
    with pytest.raises(ValueError, match=message), knock_out(model, heads, how):
        pass


@pytest.mark.parametrize("heads", [[0], [(0, "a")], [(0, 1, 2)]])
def test_what_is_no_head_is_refused(model, heads):
    with pytest.raises(ValueError, match=r"a head is \(layer, head\), got"), knock_out(model, heads):
        pass


@torch.inference_mode()
def test_an_adapters_heads_are_those_of_the_merged_model(model, sample):
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)).eval()
    plain = adapted(**sample.inputs).logits
    found = {}
    for how in ("zero", "edges"):
        with knock_out(adapted, [(0, 1), (1, 2)], how):
            found[how] = adapted(**sample.inputs).logits
        assert not torch.allclose(found[how], plain, atol=1e-4)
    merged = adapted.merge_and_unload()
    for how, logits in found.items():
        with knock_out(merged, [(0, 1), (1, 2)], how):
            torch.testing.assert_close(merged(**sample.inputs).logits, logits, atol=1e-4, rtol=1e-3)
