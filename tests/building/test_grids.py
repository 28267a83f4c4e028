"""Masks from grids: what they cover, in the tokens that a real LLaVA-1.5 processor with padding has."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_release import padded_grid
from transformers import LlavaProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from fivl_hf.building.grids import _Cells, mask_from_grid
from fivl_hf.geometry import token_boxes
from fivl_hf.masks import coverage

SIDES = st.integers(280, 700)


@pytest.fixture(scope="module")
def llava(processor):
    return LlavaProcessor(
        LlavaImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, do_pad=True),
        processor.tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def released(grid, boxes, size):
    """What a released grid says of each token's part of the image: the cell's mask over its visible area."""
    visible = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    cell = (max(size) / 24) ** 2
    return grid.reshape(-1) / 255 * cell / visible


@given(width=SIDES, height=SIDES, data=st.data())
@settings(max_examples=30)
def test_covers_every_token_by_the_released_value(llava, width, height, data):
    numbers = st.floats(0, 1)
    x, y, a, b = (data.draw(numbers) for _ in range(4))
    rows, columns = np.mgrid[:height, :width] + 0.5
    inside = np.hypot((columns / width - x) / (a + 0.05), (rows / height - y) / (b + 0.05)) <= 1
    grid = padded_grid(inside)
    mask = mask_from_grid(grid / 255, (width, height))
    boxes = token_boxes(llava, (width, height))
    seen = ~np.isnan(boxes).any(1)
    found = coverage(mask[None], boxes)[0][seen]
    expected = released(grid, boxes, (width, height))[seen]
    # Of tokens that see a sliver of the image, a pixel is a larger share.
    sliver = 255 * (max(width, height) / 24) ** 2 / ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))[seen]
    tolerance = np.where(sliver > 255 * 1.01, sliver / 255 / 255, 1 / 255)
    assert (np.abs(found - expected) <= tolerance + 1e-9).all()
    assert found[expected == 0].max(initial=0) < 1e-9


def test_half_covered_cell_beside_a_full_one():
    """24 cells of 2 × 2 pixels in a 48 × 48 image: the half goes to the side of the full neighbour."""
    grid = np.zeros((24, 24))
    grid[5, 5], grid[5, 6] = 1.0, 0.5
    mask = mask_from_grid(grid, (48, 48))
    assert mask.sum() == 6
    assert mask[10:12, 10:13].all()


def test_padding_is_undone():
    """A 48 × 24 image lies in rows 12 to 36 of its square: cells of padding say nothing of it."""
    grid = np.zeros((24, 24))
    grid[:6] = 1.0
    assert not mask_from_grid(grid, (48, 24)).any()
    grid[6] = 1.0
    mask = mask_from_grid(grid, (48, 24))
    assert mask[:2].all()
    assert not mask[2:].any()


def test_masks_drawn_elsewhere_are_met_almost_everywhere():
    """Drawn at 336×336, an edge may run along cells' borders, where no whole pixels do."""
    rng = np.random.default_rng(0)
    errors, labelled = [], 0
    for width, height in [(640, 480), (500, 375), (333, 500)] * 8:
        rows, columns = np.mgrid[:height, :width] + 0.5
        x, y, a, b = rng.uniform(0.1, 0.9, 4)
        inside = (abs(columns / width - x) < a / 3) & (abs(rows / height - y) < b / 3)
        grid = padded_grid(inside, resized=True) / 255
        cells = _Cells(grid, (width, height))
        error = (
            np.abs(cells.areas(mask_from_grid(grid, (width, height))) - cells.wanted) / (max(width, height) / 24) ** 2
        )
        assert error[grid == 0].max() < 1e-6
        errors.append(error[grid > 0])
        labelled += (grid > 0).sum()
    far = np.concatenate(errors)
    assert far.max() < 12 / 255
    assert (far > 1 / 255).sum() < 0.1 * labelled


@given(width=st.integers(1, 60), height=st.integers(1, 60), seed=st.integers(0, 99))
def test_small_images_are_as_near_as_pixels_allow(width, height, seed):
    grid = np.random.default_rng(seed).random((24, 24))
    mask = mask_from_grid(grid, (width, height))
    assert mask.shape == (height, width)
    cells = _Cells(grid, (width, height))
    # Cells of about a pixel share their pixels with others.
    assert np.abs(cells.areas(mask) - cells.wanted).max() <= 4
    assert mask_from_grid(np.ones((24, 24)), (width, height)).all()
    assert not mask_from_grid(np.zeros((24, 24)), (width, height)).any()
