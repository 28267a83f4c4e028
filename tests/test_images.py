"""Images as every model, mask and person is shown them."""

import io

import numpy as np
import pytest
from PIL import Image

from fivl_hf.evaluation.questions import questions
from fivl_hf.explain.samples import prepare
from fivl_hf.images import ImageError, black_out, encoded_bytes, image_bytes, open_rgb, rgb


def grey(values, dtype):
    return Image.fromarray(np.full((4, 6), values, dtype=dtype))


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (grey(32_768, np.uint16), 127),
        (grey(255, np.int32), 255),
        (grey(65_535, np.int32), 255),
        (grey(0.5, np.float32), 127),
        (grey(200.0, np.float32), 200),
        (grey(32_768.0, np.float32), 127),
        (Image.new("LA", (6, 4), (0, 0)), 255),
        (Image.new("RGBA", (6, 4), (0, 0, 0, 51)), 204),
    ],
)
def test_greys_and_transparency(image, shown):
    assert rgb(image).getpixel((0, 0)) == (shown,) * 3


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (-1.0, "greys from -1 to 0"), (70_000.0, "greys from 0 to 70000")],
)
def test_greys_that_cannot_be_shown(values, message):
    with pytest.raises(ImageError, match=message):
        rgb(grey(values, np.float32))
    buffer = io.BytesIO()
    grey(values, np.float32).save(buffer, "TIFF")
    with pytest.raises(ImageError, match=message):
        open_rgb(buffer.getvalue())


@pytest.mark.parametrize(
    "image",
    [
        grey(30_000, np.uint16),
        grey(30_000, np.int32),
        grey(0.5, np.float32),
        Image.new("PA", (6, 4)),
        Image.new("CMYK", (6, 4)),
    ],
    ids=lambda image: image.mode,
)
def test_an_image_is_stored_as_it_is_shown(image):
    stored = open_rgb(encoded_bytes(image))
    assert np.array_equal(stored, rgb(image))
    with pytest.raises(ImageError, match="not finite"):
        encoded_bytes(grey(np.nan, np.float32))


def test_everybody_sees_the_same_image(rows, model, processor):
    """Transparent and upright: the model that answers, the one that is explained, and the evidence that is removed."""
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    drawing = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    drawing.paste((255, 0, 0, 255), (0, 0, 40, 10))
    row = {**rows[0], "images": [{"bytes": image_bytes(drawing, exif=exif), "path": None}]}
    expected = np.full((40, 40, 3), 255, np.uint8)
    expected[30:] = (255, 0, 0)
    (question,) = questions([row])
    assert np.array_equal(question.images()[0], expected)
    assert np.array_equal(prepare(model, processor, row).images[0], expected)
    assert np.array_equal(black_out(drawing.rotate(180), []), expected)
