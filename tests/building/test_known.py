import numpy as np
import pytest

from fivl_hf.building.grids import mask_from_grid
from fivl_hf.geometry import padded_square_axes
from fivl_hf.images import open_image
from fivl_hf.masks import coverage, decode_mask
from fivl_hf.storage import load_rows


def test_masks_cover_every_token_by_the_released_value(release, rows):
    """In cells of LLaVA-1.5's padded square (test_grids compares these with the processor's token boxes)."""
    checked = 0
    for row in (each for each in rows if each["id"] not in release.turned):
        size = open_image(row["images"][0]).size
        x, y = padded_square_axes(size, 336)
        columns, lines = x.cells(14), y.cells(14)
        boxes = np.array([[a, b, c, d] for b, d in lines for a, c in columns])
        area = np.nan_to_num((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        for expression, mask in zip(row["key_expressions"], row["masks"], strict=True):
            grid = release.grids[row["id"].removesuffix("-2"), expression["turn"], expression["text"]].reshape(-1) / 255
            found = coverage(decode_mask(mask)[None], boxes)[0] * area / (max(size) / 24) ** 2
            assert np.abs(found - grid).max() <= 1 / 255
            assert found[grid == 0].max(initial=0) < 1e-9
            checked += 1
    assert checked > 250


def test_turned_images_have_turned_masks_and_boxes(release, rows):
    """Stored lying (width, height), shown upright: what is at (x, y) is shown at (height - y, x)."""
    turned = [row for row in rows if row["id"] in release.turned]
    assert len(turned) == 3
    for row in turned[:8]:
        shown = open_image(row["images"][0]).size
        height = shown[0]
        for expression, mask in zip(row["key_expressions"], row["masks"], strict=True):
            key = row["id"], expression["turn"], expression["text"]
            stored = mask_from_grid(release.grids[key] / 255, shown[::-1])
            assert np.array_equal(decode_mask(mask), stored[::-1].T)
            x0, y0, x1, y1 = release.boxes[key]
            assert expression["boxes"][0] == pytest.approx([height - y1, x0, height - y0, x1], abs=1e-3)


def test_boxes_are_in_source_pixels(release, rows):
    for row in (each for each in rows.select(range(0, len(rows), 3)) if each["id"] not in release.turned):
        for expression in row["key_expressions"]:
            expected = release.boxes[row["id"].removesuffix("-2"), expression["turn"], expression["text"]]
            assert expression["boxes"][0] == pytest.approx(expected, abs=1e-3)


def test_augmented_rows_give_the_same_rows(imported, rows, build, tmp_path):
    """Built again from its own rows, as from `fivl augment`'s."""
    build("fivl_instruct", tmp_path / "again", config_name="augmented", data_dir=str(imported[0]))
    again = {row["id"]: row for row in load_rows(tmp_path / "again", "train")}
    assert again == {row["id"]: row for row in rows}
