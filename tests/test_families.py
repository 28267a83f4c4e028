"""Token boxes of model families: closed forms against what a tiny model of each class sees."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import transformers as tf
from families import FAMILIES, make

from fivl_hf.geometry import UnknownProcessorError, register_token_boxes, registry, token_boxes
from fivl_hf.geometry.probe import probed_boxes

SIZES = [(60, 60), (1400, 300)] + [
    tuple(int(side) for side in np.exp(np.random.default_rng(seed).uniform(np.log(60), np.log(900), 2)))
    for seed in range(18)
]
SIDE = 168  # a cell of 21 pixels: fine enough for the probe


@pytest.mark.parametrize("name", FAMILIES)
def test_closed_forms_are_what_the_model_sees(name, record_property):
    record_property("table", (name, "geometry"))
    processor, model = make(name, SIDE)
    errors = []
    for number, size in enumerate(SIZES):
        # Some processors treat a lone image otherwise.
        images = 2 if number % 4 == 3 else 1
        boxes = token_boxes(processor, size, images=images)
        probed = probed_boxes(model.config, processor, size, images=images)
        assert boxes.shape == probed.shape, f"{size}"
        assert np.array_equal(np.isnan(boxes), np.isnan(probed)), f"{size}"
        errors.append(np.nanmean(np.abs(boxes - probed)))
    assert np.mean(errors) <= 0.15, dict(zip(SIZES, errors, strict=True))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "Mllama"])
def test_as_many_boxes_as_placeholders(name):
    """Two images of different sizes in one sample, one in the other, in one padded batch."""
    from PIL import Image

    from fivl_hf.models import image_token_id

    processor, model = make(name)
    sizes = [[(90, 61), (200, 333)], [(64, 64)]]
    content = [[{"type": "image"}] * len(group) + [{"type": "text", "text": "red"}] for group in sizes]
    texts = [processor.apply_chat_template([{"role": "user", "content": c}], tokenize=False) for c in content]
    pictures = [[Image.new("RGB", size) for size in group] for group in sizes]
    inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
    found = (inputs["input_ids"] == image_token_id(model.config)).sum(dim=1).tolist()
    expected = [sum(len(token_boxes(processor, size, images=len(group))) for size in group) for group in sizes]
    assert found == expected


def test_pictures_through_torchvision():
    """The same closed forms hold for the image processors that are used where torchvision is installed."""
    vision = Path(sys.prefix) / "torchvision"
    if not vision.exists():
        pytest.skip("torchvision is not in .venv/torchvision; `make test` puts it there")
    script = Path(__file__).with_name("torchvision_families.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (vision, script.parent)))}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    errors = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert errors.keys() == FAMILIES.keys()
    assert all(float(error) <= 0.15 for error in errors.values()), errors


def test_llava_next_with_another_crop_is_refused():
    processor, _ = make("LLaVA-NeXT")
    processor.image_processor.size = {"shortest_edge": 40}
    with pytest.raises(UnknownProcessorError, match="size .* and crop_size .* the same"):
        token_boxes(processor, (100, 100))


def test_gemma_and_internvl_take_the_processors_own_settings():
    """``images_kwargs`` of the processor has precedence over what its image processor says."""
    processor, _ = make("Gemma 3")
    processor.image_processor.do_pan_and_scan = True
    assert len(token_boxes(processor, (400, 100))) == 16
    processor, _ = make("InternVL")
    processor.image_processor.crop_to_patches = False
    assert len(token_boxes(processor, (400, 100))) > 16


def test_boxes_are_kept_until_a_setting_changes():
    processor, _ = make("LLaVA-1.5, crop")
    first = token_boxes(processor, (100, 50))
    assert token_boxes(processor, (100, 50)) is first
    assert not first.flags.writeable
    processor.patch_size = 14
    assert len(token_boxes(processor, (100, 50))) == 16


def test_registering_replaces_what_was_kept(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(registry, "_SEVERAL", dict(registry._SEVERAL))
    processor, _ = make("PaliGemma")
    token_boxes(processor, (100, 50))
    mine = np.zeros((3, 4))
    register_token_boxes("PaliGemmaProcessor", lambda processor, size: mine)
    assert token_boxes(processor, (100, 50)) is mine
    monkeypatch.undo()
    registry._cache.clear()


def unknown(processor):
    """The processor as one of a class nobody knows."""
    processor.__class__ = type("StrangeProcessor", (type(processor),), {})
    return processor


def test_an_unknown_processor_is_probed(caplog):
    processor, model = make("LLaVA-1.5, pad", SIDE)
    known = token_boxes(processor, (200, 120))
    strange = unknown(processor)
    with pytest.raises(UnknownProcessorError, match="StrangeProcessor"):
        token_boxes(strange, (200, 120))
    tf.utils.logging.get_logger("fivl_hf").propagate = True
    tf.utils.logging.get_logger("fivl_hf.geometry.probe").propagate = True
    probed = token_boxes(strange, (200, 120), model_config=model.config)
    assert np.nanmean(np.abs(probed - known)) < 0.15
    assert "StrangeProcessor" in caplog.text
    assert "64 visual tokens" in caplog.text


def test_perceivers_are_refused_with_the_reason():
    """Idefics2 reads the whole image into a few tokens."""
    tokenizer = make("Idefics3")[0].tokenizer
    tokenizer.image_boundary_token = "<fake_token_around_image>"
    tokenizer.image_boundary_token_id = tokenizer.convert_tokens_to_ids("<fake_token_around_image>")
    pixels = tf.Idefics2ImageProcessorPil(size={"shortest_edge": 30, "longest_edge": 60}, do_image_splitting=False)
    processor = tf.Idefics2Processor(pixels, tokenizer, image_seq_len=4)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = tf.Idefics2Config(
        vision_config={**small, "num_hidden_layers": 1, "image_size": 56, "patch_size": 7},
        perceiver_config={"hidden_size": 16, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
                          "resampler_head_dim": 8, "num_key_value_heads": 1},
        text_config={**small, "model_type": "mistral", "num_hidden_layers": 1, "num_key_value_heads": 1},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    with pytest.raises(UnknownProcessorError, match="sees too much of the image"):
        token_boxes(processor, (80, 50), model_config=config)


def test_a_family_nobody_described_is_probed():
    """Aya Vision, which nothing here knows: tiles, a thumbnail, pixel shuffle."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    tokenizer = make("InternVL")[0].tokenizer
    template = make("InternVL")[0].chat_template.replace("<IMG_CONTEXT>", "<image>")
    pixels = GotOcr2ImageProcessorPil(
        size={"height": 112, "width": 112}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    processor = tf.AyaVisionProcessor(
        pixels, tokenizer, patch_size=14, img_size=112, downsample_factor=2, chat_template=template,
        start_of_img_token="<img>", end_of_img_token="</img>", img_patch_token="<IMG_CONTEXT>",
    )  # fmt: skip
    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = tf.AyaVisionConfig(
        vision_config={**small, "model_type": "siglip_vision_model", "image_size": 112, "patch_size": 14},
        text_config={**small, "model_type": "cohere2", "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 300},
        image_token_index=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    boxes = token_boxes(processor, (300, 150), model_config=config)
    assert np.isfinite(boxes).all()
    # Two tiles side by side, then the whole: as InternVL lays them out.
    tile = np.median(boxes[:32, 2:] - boxes[:32, :2], axis=0)
    whole = np.median(boxes[-16:, 2:] - boxes[-16:, :2], axis=0)
    assert np.allclose(tile, (150 / 4, 150 / 4), atol=0.5)
    assert np.allclose(whole, (300 / 4, 150 / 4), atol=0.5)
