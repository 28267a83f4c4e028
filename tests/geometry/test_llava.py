import numpy as np
import pytest
from families import make
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessorPil, LlavaImageProcessorPil, LlavaProcessor, SiglipImageProcessorPil

from fivl_hf.geometry import UnknownProcessorError, register_token_boxes, token_boxes


def test_llava_next_with_another_crop_is_refused():
    processor, _ = make("LLaVA-NeXT")
    processor.image_processor.size = {"shortest_edge": 40}
    with pytest.raises(UnknownProcessorError, match="size .* and crop_size .* the same"):
        token_boxes(processor, (100, 100))


def test_onevision_with_another_aspect_ratio_is_refused():
    processor, _ = make("LLaVA-OneVision")
    processor.vision_aspect_ratio = "anyres"
    with pytest.raises(UnknownProcessorError, match="'anyres_max_N', not .*'anyres'"):
        token_boxes(processor, (100, 100))


PATCH = 7


SIZES = [(64, 64), (37, 641), (1000, 1), (1, 300), (333, 47), (20, 13), (90, 91)]


def make_processor(tokenizer, image_processor, **options):
    defaults = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return LlavaProcessor(image_processor=image_processor, tokenizer=tokenizer, **{**defaults, **options})


def crop(edge=35, side=35):
    return CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": side, "width": side})


IMAGE_PROCESSORS = {
    "crop": crop(),
    "crop smaller than the edge": crop(edge=50, side=35),
    "crop larger than the edge": crop(edge=28, side=49),
    "odd missing pixels": crop(edge=28, side=35),
    "pad": LlavaImageProcessorPil(size={"shortest_edge": 35}, crop_size={"height": 35, "width": 35}, do_pad=True),
    "llava without pad": LlavaImageProcessorPil(size={"shortest_edge": 35}, crop_size={"height": 35, "width": 35}),
    "stretch": SiglipImageProcessorPil(size={"height": 42, "width": 28}),
    "height and width, cropped": CLIPImageProcessorPil(
        size={"height": 40, "width": 60}, crop_size={"height": 35, "width": 35}
    ),
}


def processed(image_processor, pixels):
    """(H, W) first channel of a grey image after the processor, normalisation undone to 0..255 by calibration."""
    return image_processor(Image.fromarray(pixels).convert("RGB"), return_tensors="np")["pixel_values"][0, 0]


def seen_coordinates(image_processor, size, axis):
    """Source coordinate of every processed pixel along an axis, NaN where it sees padding.

    Grey thermometers for successive starts add up to the coordinate; a dark and a light image calibrate
    normalisation away and mark padding. Greys stay between 64 and 192, so that interpolation does not overshoot.
    """
    width, height = size
    dark = processed(image_processor, np.full((height, width), 64, np.uint8))
    light = processed(image_processor, np.full((height, width), 192, np.uint8))
    span = light - dark
    visible = span > 0.5 * span.max()
    total = np.zeros_like(span, dtype=np.float64)
    coordinate = np.broadcast_to(
        (np.arange(width)[None] if axis == 0 else np.arange(height)[:, None]) + 0.5, (height, width)
    )
    for start in range(0, size[axis], 64):
        ramp = 64 + np.clip((coordinate - start) * 2, 0, 128).astype(np.uint8)
        total += (processed(image_processor, ramp) - dark) / np.where(visible, span, 1) * 64
    return np.where(visible, total, np.nan)


@pytest.mark.parametrize("name", IMAGE_PROCESSORS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_boxes_agree_with_the_processor(processor, name, size):
    check_against_processor(processor, IMAGE_PROCESSORS[name], size)


@settings(max_examples=30)
@given(st.integers(12, 160), st.integers(12, 160), st.integers(14, 60), st.integers(14, 60), st.booleans())
@example(2, 3, 19, 14, False)
@example(2, 3, 16, 14, False)
@example(2, 3, 19, 14, True)
@example(2, 3, 16, 14, True)
def test_any_size_and_any_crop_agree_with_the_processor(processor, width, height, edge, side, pads):
    options = {"size": {"shortest_edge": edge}, "crop_size": {"height": side, "width": side}}
    image_processor = LlavaImageProcessorPil(**options, do_pad=True) if pads else CLIPImageProcessorPil(**options)
    check_against_processor(processor, image_processor, (width, height))


def check_against_processor(processor, image_processor, size):
    boxes = token_boxes(make_processor(processor.tokenizer, image_processor), size)
    xs, ys = (seen_coordinates(image_processor, size, axis) for axis in (0, 1))
    rows, columns = xs.shape[0] // PATCH, xs.shape[1] // PATCH
    assert boxes.shape == (rows * columns, 4)
    for i, box in enumerate(boxes):
        cell = np.s_[(i // columns) * PATCH :, (i % columns) * PATCH :]
        x, y = xs[cell][:PATCH, :PATCH], ys[cell][:PATCH, :PATCH]
        if np.isnan(box[0]):
            assert np.isnan(x).all(), f"token {i} sees something of the image"
            continue
        # Beside padding, the ramp is blended with it over another pixel.
        check_box(box, x, y, size, 1.25 if np.isnan(xs).any() else 0.7)


def check_box(box, x, y, size, pixels):
    """The seen coordinates fill the box: within so many source pixels, or resized pixels where those are larger.

    More than half a pixel: at the image's edge a bicubic ramp stops half a pixel short, and overshoots.
    """
    if np.isnan(x).all():
        # A sliver thinner than a processed pixel may lie between two sampling points.
        assert min(box[2] - box[0], box[3] - box[1]) < max(size) / 5
        return
    for low, high, seen in ((box[0], box[2], x), (box[1], box[3], y)):
        first, last = np.nanmin(seen), np.nanmax(seen)
        samples = np.isfinite(seen).any(axis=0 if seen is x else 1).sum()
        step = (high - low) / samples
        tolerance = pixels * max(step, 1)
        assert first == pytest.approx(low + step / 2, abs=tolerance)
        assert last == pytest.approx(high - step / 2, abs=tolerance)


def test_crop_by_hand(processor):
    """100x50, shortest edge 35 → 70x35, centre crop keeps resized x 17..52; half a pixel of scale 0.7 each side."""
    boxes = token_boxes(make_processor(processor.tokenizer, crop()), (100, 50))
    assert boxes[0] == pytest.approx([17 / 0.7, 0, 24 / 0.7, 10])
    assert boxes[-1] == pytest.approx([45 / 0.7, 40, 52 / 0.7, 50])


def test_pad_by_hand(processor):
    """10x30 padded to 30x30, 10 empty columns on either side; of five cells of 6 pixels it spans 1 to 3."""
    boxes = token_boxes(make_processor(processor.tokenizer, IMAGE_PROCESSORS["pad"]), (10, 30)).reshape(5, 5, 4)
    assert np.isnan(boxes[:, [0, 4]]).all()
    assert boxes[0, 1] == pytest.approx([0, 0, 2, 6])
    assert boxes[4, 2] == pytest.approx([2, 24, 8, 30])


def test_full_features_keep_the_class_token(processor):
    full = make_processor(processor.tokenizer, crop(), vision_feature_select_strategy="full")
    boxes = token_boxes(full, (64, 64))
    assert len(boxes) == 26
    assert np.isnan(boxes[0]).all()
    assert np.isfinite(boxes[1:]).all()


@pytest.mark.parametrize("name", IMAGE_PROCESSORS)
def test_as_many_boxes_as_placeholders(processor, name):
    whole = make_processor(processor.tokenizer, IMAGE_PROCESSORS[name])
    ids = whole(images=[Image.new("RGB", (37, 64))], text="<image>", return_tensors="np")["input_ids"]
    assert len(token_boxes(whole, (37, 64))) == (ids == whole.image_token_id).sum()


def test_unknown_processor_says_how_to_register(processor):
    class HomeMadeProcessor:
        pass

    with pytest.raises(UnknownProcessorError, match=r"HomeMadeProcessor.*register_token_boxes\('HomeMadeProcessor'"):
        token_boxes(HomeMadeProcessor(), (4, 4))
    register_token_boxes("HomeMadeProcessor", lambda processor, size: np.array([[0, 0, *size]], dtype=float))
    assert token_boxes(HomeMadeProcessor(), (4, 3)).tolist() == [[0, 0, 4, 3]]


def test_unknown_image_processor_and_bad_size(processor):
    class OddImageProcessor(CLIPImageProcessorPil):
        pass

    with pytest.raises(UnknownProcessorError, match="OddImageProcessor"):
        token_boxes(make_processor(processor.tokenizer, OddImageProcessor()), (4, 4))
    with pytest.raises(ValueError, match=r"width, height"):
        token_boxes(processor, (0, 4))
