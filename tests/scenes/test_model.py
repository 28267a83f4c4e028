import hashlib

import numpy as np
import torch

from fivl_hf.augment.scenes import scene_questions, scene_rows
from fivl_hf.chat import as_blocks, encode
from fivl_hf.explain.effects import answer_tokens, token_log_probabilities
from fivl_hf.explain.samples import prepare
from fivl_hf.images import open_rgb
from fivl_hf.scenes.model import (
    PRETRAINED,
    free_model,
    free_processor,
    pretrained_model,
    scene_model,
    scene_processor,
)

# Of the file that `python examples/pretrained_start/train.py` made.
DIGEST = "2193e3f2ca15187a640f13b11cd1cdad7ede1298206701c62550883e63e565f6"


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


def test_the_shipped_weights_are_those_that_the_script_made():
    """Small, and the ones that the results in examples/ablations were measured with."""
    assert PRETRAINED.stat().st_size < 3_000_000
    assert hashlib.sha256(PRETRAINED.read_bytes()).hexdigest() == DIGEST
    tower = pretrained_model(free_processor()).model.vision_tower
    assert sum(weight.numel() for weight in tower.parameters()) < 1_000_000


def test_the_pretrained_model_captions_scenes_that_it_has_never_seen():
    """Twice as many of the captions' words are right as with random weights; two models alike, whatever came before."""
    processor = free_processor()
    model = pretrained_model(processor).eval()
    again = pretrained_model(processor)
    assert all((a == b).all() for a, b in zip(model.parameters(), again.parameters(), strict=True))
    rows = list(scene_questions("test", 20, 5, kinds=("caption",)))

    def share(model):
        right = []
        for row in rows:
            sample = prepare(model, processor, row)
            found = token_log_probabilities(model, sample.inputs, [answer_tokens(sample)])
            right += [first for _, firsts in found for first in firsts]
        return np.mean(right)

    assert share(model) > 0.7 > 2 * share(free_model(processor).eval())
