import torch

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.chat import as_blocks, encode
from fivl_hf.images import open_rgb
from fivl_hf.scenes.model import scene_model, scene_processor


def test_every_word_of_every_scene_is_known(processor):
    unknown = processor.tokenizer.unk_token_id
    for row in scene_rows("train", 200, seed=9):
        text = " ".join(message["content"] for message in row["messages"])
        assert unknown not in processor.tokenizer(text)["input_ids"], text
        assert processor.tokenizer.decode(processor.tokenizer(text)["input_ids"]) == text


def test_as_many_image_tokens_as_the_model_has_features(processor):
    row = next(iter(scene_rows("train", 1)))
    encoded = encode(processor, [as_blocks(row["messages"], 1)], [[open_rgb(row["images"][0])]])
    model = scene_model(processor, hidden_size=16, heads=2, vision_layers=1, text_layers=1)
    tokens = (encoded.inputs["input_ids"] == model.config.image_token_id).sum()
    assert tokens == model.config.image_seq_length
    assert torch.isfinite(model(**encoded.inputs).logits).all()


def test_a_seed_is_a_model():
    processor = scene_processor()
    one, same, other = (
        scene_model(processor, seed, hidden_size=16, heads=2, vision_layers=1, text_layers=1).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_the_default_is_about_half_a_million_weights(processor):
    assert 400_000 < sum(p.numel() for p in scene_model(processor).parameters()) < 700_000
