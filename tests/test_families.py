"""Token boxes of model families: closed forms against what a tiny model of each class sees."""

import numpy as np
import pytest
import transformers as tf
from families import FAMILIES, make, on_torchvision, perceiver

from fivl_hf.geometry import UnknownProcessorError, register_token_boxes, registry, token_boxes, token_scales
from fivl_hf.geometry.probe import probed_boxes
from fivl_hf.geometry.registry import whole_view

SIZES = [(60, 60), (1400, 300)] + [
    tuple(int(side) for side in np.exp(np.random.default_rng(seed).uniform(np.log(60), np.log(900), 2)))
    for seed in range(18)
]
SIDE = 168  # a cell of 21 pixels: fine enough for the probe


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "Aya Vision"])
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
    images = [[Image.new("RGB", size) for size in group] for group in sizes]
    inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
    found = (inputs["input_ids"] == image_token_id(model.config)).sum(dim=1).tolist()
    expected = [
        sum(len(token_boxes(processor, size, images=len(group), model_config=model.config)) for size in group)
        for group in sizes
    ]
    assert found == expected


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "Aya Vision"])
def test_closed_forms_hold_for_both_backends(name):
    """torchvision's image processors cut, pad and round by their own code."""
    processor, model = make(name, SIDE)
    on_torchvision(processor)
    assert not type(processor.image_processor).__name__.endswith("Pil")
    for images, size in [(1, (230, 150)), (1, (97, 301)), (2, (640, 480)), (1, (71, 400))]:
        boxes = token_boxes(processor, size, images=images)
        probed = probed_boxes(model.config, processor, size, images=images)
        assert np.array_equal(np.isnan(boxes), np.isnan(probed)), f"{size}"
        assert np.nanmean(np.abs(boxes - probed)) <= 0.15, f"{size}"


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


def test_an_unknown_processor_is_probed(caplog, monkeypatch):
    processor, model = make("LLaVA-1.5, pad", SIDE)
    known = token_boxes(processor, (200, 120))
    strange = unknown(processor)
    with pytest.raises(UnknownProcessorError, match="StrangeProcessor"):
        token_boxes(strange, (200, 120))
    monkeypatch.setattr(tf.utils.logging.get_logger("fivl_hf.geometry.probe"), "propagate", True)
    monkeypatch.setattr("fivl_hf.geometry.probe._told", set())
    token_boxes(strange, (100, 120), model_config=model.config)
    probed = token_boxes(strange, (200, 120), model_config=model.config)
    assert np.nanmean(np.abs(probed - known)) < 0.15
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "StrangeProcessor" in warning
    assert "64 visual tokens" in warning


def test_perceivers_are_refused_with_the_reason():
    processor, model = perceiver()
    with pytest.raises(UnknownProcessorError, match="sees too much of the image"):
        token_boxes(processor, (80, 50), model_config=model.config)


def test_what_cannot_be_probed_says_why():
    """Fuyu's config has no part for vision: its patches go into the language model as they are."""
    processor = unknown(make("PaliGemma")[0])
    with pytest.raises(UnknownProcessorError, match="FuyuConfig .* could not be probed"):
        token_boxes(processor, (80, 50), model_config=tf.FuyuConfig(image_token_id=4))


def test_probed_boxes_are_kept_by_number_of_images_and_model():
    processor, model = make("LLaVA-OneVision")
    strange = unknown(processor)
    alone, together = (len(token_boxes(strange, (200, 120), images=n, model_config=model.config)) for n in (1, 2))
    assert alone > together == 65


def test_onevision_with_another_aspect_ratio_is_refused():
    processor, _ = make("LLaVA-OneVision")
    processor.vision_aspect_ratio = "anyres"
    with pytest.raises(UnknownProcessorError, match="'anyres_max_N', not .*'anyres'"):
        token_boxes(processor, (100, 100))


@pytest.mark.parametrize(
    ("name", "size"),
    [("LLaVA-NeXT", (300, 150)), ("LLaVA-NeXT", (1600, 100)), ("LLaVA-OneVision", (300, 110)),
     ("LLaVA-OneVision", (800, 790)), ("LLaVA-OneVision", (100, 70)),
     ("SmolVLM", (300, 150)), ("InternVL", (300, 150)), ("Gemma 3, pan and scan", (300, 100))],
)  # fmt: skip
def test_tiles_and_the_whole_are_told_apart(name, size):
    processor, _ = make(name)
    boxes = token_boxes(processor, size)
    scales = token_scales(processor, boxes)
    for scale in ("whole", "tiles"):
        seen = boxes[scales == scale]
        # Each scale sees the whole image.
        assert seen[:, :2].min() == 0
        assert seen[:, 2].max() == pytest.approx(size[0], abs=3 + 0.04 * size[0])
    # The view of the whole has a cell for each of its tokens, side by side, at one end.
    places = np.flatnonzero(scales == "whole")
    assert np.ptp(places) + 1 == len(places) == abs(whole_view(processor))
    assert 0 in places or len(boxes) - 1 in places
    assert np.array_equal(scales == "", np.isnan(boxes[:, 0]))


@pytest.mark.parametrize("name", ["LLaVA-1.5, crop", "Qwen2.5-VL", "Mllama", "Gemma 3"])
def test_one_view_has_no_scales(name):
    processor, _ = make(name)
    assert set(token_scales(processor, token_boxes(processor, (60, 110)))) == {""}
    assert token_scales(processor, np.empty((0, 4))).tolist() == []


def test_a_family_nobody_described_is_probed(record_property):
    """Aya Vision: tiles, a thumbnail, pixel shuffle, laid out as InternVL's."""
    record_property("table", ("Aya Vision", "geometry"))
    processor, model = make("Aya Vision", SIDE)
    other, _ = make("InternVL", SIDE)
    other.image_processor = processor.image_processor
    for size in [(300, 150), (120, 333), (200, 200)]:
        probed, like = token_boxes(processor, size, model_config=model.config), token_boxes(other, size)
        assert probed.shape == like.shape
        assert np.abs(probed - like).mean() <= 0.15
