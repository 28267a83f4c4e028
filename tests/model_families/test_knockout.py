"""Heads of every family knocked out, against models whose attention is changed by hand."""

import pytest
import torch
from attention_by_hand import by_hand, output_projections
from families import FAMILIES, enlarge, large_rows, make

from fivl_hf.explain.knockout import knock_out
from fivl_hf.explain.samples import prepare
from fivl_hf.models import uses_cross_attention


@pytest.fixture(scope="module")
def big_row(rows):
    return large_rows(rows[:1])[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_head_without_effect(name, big_row, record_property):
    record_property("table", (name, "knock-out"))
    processor, model = make(name)
    enlarge(model)
    for weight in model.parameters():
        weight.requires_grad_(False)
    for path, weight in model.named_parameters():
        if path.endswith("attn_gate"):  # closed, cross-attention says nothing
            weight.fill_(1.0)
    sample = prepare(model.eval(), processor, big_row)
    projections = output_projections(model)
    heads = model.config.get_text_config().num_attention_heads
    chosen = [(layer, head) for layer in sorted(projections)[:2] for head in (0, heads - 1)]

    def zeroed(layer):
        def hook(_, arguments):
            given = arguments[0].unflatten(-1, (heads, -1)).clone()
            for other, head in chosen:
                if other == layer:
                    given[..., head, :] = 0
            return (given.flatten(-2), *arguments[1:])

        return hook

    plain = model(**sample.inputs, use_cache=False).logits
    hooks = [module.register_forward_pre_hook(zeroed(layer)) for layer, module in projections.items()]
    expected = model(**sample.inputs, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    with knock_out(model, chosen):
        found = model(**sample.inputs, use_cache=False).logits
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(found, plain, atol=1e-3)

    looking = model.config.get_text_config().cross_attention_layers if uses_cross_attention(model.config) else None
    is_image = torch.zeros(sample.inputs["input_ids"].shape[1], dtype=torch.bool)
    if looking is None:
        is_image[sample.image_positions] = True

    def allowed(layer, queries, keys):
        """No edge from an image to a text token; of cross-attention none is left."""
        if looking is not None:
            return torch.full((queries, keys), layer not in looking)
        return is_image[:, None] | ~is_image[None]

    with by_hand(model, chosen, allowed):
        expected = model(**sample.inputs, use_cache=False).logits
    with knock_out(model, chosen, "edges"):
        found = model(**sample.inputs, use_cache=False).logits
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found, plain, atol=1e-3)
