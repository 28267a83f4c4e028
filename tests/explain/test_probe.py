"""The probe against eager attention of the same model."""

import copy

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, MistralConfig

from fivl_hf.chat import as_blocks, encode
from fivl_hf.explain.probe import record_attention


def grouped(processor, text_class=LlamaConfig, **text):
    """A tiny LLaVA with grouped-query attention."""
    torch.manual_seed(0)
    tokenizer = processor.tokenizer
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=40,
            patch_size=8,
        ),
        text_config=text_class(
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=len(tokenizer),
            **text,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    return LlavaForConditionalGeneration(config).eval()


@pytest.fixture(params=["multi-head", "grouped-query", "sliding window"])
def any_model(request, model, processor):
    if request.param == "multi-head":
        return model
    if request.param == "grouped-query":
        return grouped(processor)
    return grouped(processor, MistralConfig, sliding_window=12)


@pytest.fixture
def batch(processor, dataset):
    """Three conversations of different lengths, padded on the left."""
    chosen = [dataset[i]["messages"][: 2 * (1 + i % 2)] for i in range(3)]
    conversations = [as_blocks(messages, 1) for messages in chosen]
    images = [dataset[i]["images"] for i in range(3)]
    return encode(processor, conversations, images, padding=True, padding_side="left").inputs


@torch.no_grad()
def test_rows_equal_eager_and_outputs_equal_sdpa(any_model, batch):
    eager = copy.deepcopy(any_model)
    eager.set_attn_implementation("eager")
    expected = eager(**batch, output_attentions=True).attentions
    length = batch["input_ids"].shape[1]
    rows = torch.tensor([[length - 1, length - 5], [length - 3, length - 2], [length - 9, length - 1]])
    columns = torch.stack(
        [torch.nonzero(ids == any_model.config.image_token_id).flatten() for ids in batch["input_ids"]]
    )
    plain = any_model(**batch).logits
    with record_attention(any_model, rows, columns) as recorded:
        assert torch.equal(any_model(**batch).logits, plain)
    attention = recorded.stacked()
    heads = any_model.config.text_config.num_attention_heads
    assert attention.shape == (3, len(expected), heads, 2, columns.shape[1])
    for layer, full in enumerate(expected):
        for b in range(3):
            torch.testing.assert_close(attention[b, layer], full[b][:, rows[b]][:, :, columns[b]], atol=1e-5, rtol=0)


@torch.no_grad()
def test_without_padding_the_mask_is_plainly_causal(model, batch):
    alone = {k: v[:1] for k, v in batch.items()}
    start = int(alone["attention_mask"][0].argmax())
    alone = {k: v[:, start:] if k != "pixel_values" else v for k, v in alone.items()}
    del alone["attention_mask"]
    length = alone["input_ids"].shape[1]
    everything = torch.arange(length)[None]
    with record_attention(model, everything, everything) as recorded:
        model(**alone)
    attention = recorded.stacked()[0]
    assert torch.allclose(attention.sum(-1), torch.ones_like(attention.sum(-1)), atol=1e-5)
    assert torch.equal(attention, attention.tril())


def test_the_model_gets_its_attention_back(model, batch):
    def implementations():
        return {name: m.config._attn_implementation for name, m in model.named_modules() if hasattr(m, "config")}

    before = implementations()
    rows = columns = torch.zeros(3, 1, dtype=torch.long)
    with record_attention(model, rows, columns):
        assert implementations() != before
    assert implementations() == before
    with pytest.raises(ValueError, match="exactly one of"), record_attention(model, rows, columns):
        model()
    assert implementations() == before


def test_only_the_language_model_is_recorded(model, batch):
    rows = columns = torch.zeros(3, 1, dtype=torch.long)
    with record_attention(model, rows, columns) as recorded:
        model(**batch)
    assert sorted(recorded.layers) == [0, 1]


def test_gradients_flow_through_recorded_rows(model, batch):
    rows = torch.full((3, 1), batch["input_ids"].shape[1] - 1)
    columns = torch.stack([torch.nonzero(ids == model.config.image_token_id).flatten() for ids in batch["input_ids"]])
    with record_attention(model, rows, columns) as recorded:
        model(**batch)
    recorded.stacked().sum().backward()
    assert model.model.language_model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0
