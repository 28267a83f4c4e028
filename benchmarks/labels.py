"""Vision Modeling labels: array operations against a loop over patches. Aim: at least 50 times."""

import numpy as np
import torch
from table import interleaved_medians, publish

from fivl_hf.masks import coverage, decode_mask, encode_mask
from fivl_hf.training.targets import IGNORE, patch_owners, values_of_owners

GRID, WIDTH, HEIGHT, EXPRESSIONS = 24, 640, 480, 8


def patch_boxes() -> np.ndarray:
    """Return the 576 boxes of a 24 × 24 grid over the image."""
    x, y = np.linspace(0, WIDTH, GRID + 1), np.linspace(0, HEIGHT, GRID + 1)
    return np.array([(x[i], y[j], x[i + 1], y[j + 1]) for j in range(GRID) for i in range(GRID)])


def ellipses(rng: np.random.Generator) -> np.ndarray:
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    places = rng.uniform((100, 100, 30, 30), (WIDTH - 100, HEIGHT - 100, 120, 120), size=(EXPRESSIONS, 4))
    return np.stack([((xx - a) / c) ** 2 + ((yy - b) / d) ** 2 < 1 for a, b, c, d in places])


def loop_over_patches(masks: torch.Tensor, keyword_ids: list[int]) -> torch.Tensor:
    """Return the obvious way from patch-level masks (M, 24, 24): visit every patch, look at every mask."""
    labels = torch.full((GRID * GRID,), -100)
    allowed = [(mask > 0).sum().item() <= 0.3 * GRID * GRID for mask in masks]
    for patch in range(GRID * GRID):
        for m in range(len(masks)):
            if allowed[m] and masks[m, patch // GRID, patch % GRID] > 0:
                labels[patch] = keyword_ids[m]
                break
    return labels


def loop_over_pixels(masks: np.ndarray, boxes: np.ndarray, keyword_ids: list[int]) -> np.ndarray:
    """Return the obvious way from pixel masks: cut every patch out of every mask."""
    cover = np.zeros((len(masks), len(boxes)))
    for m, mask in enumerate(masks):
        for p, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
            cover[m, p] = mask[y0:y1, x0:x1].mean()
    return loop_over_patches(torch.from_numpy(cover.reshape(-1, GRID, GRID)), keyword_ids).numpy()


def our_labels(cover: np.ndarray, keyword_ids: list[int]) -> np.ndarray:
    """Return the collator's way from coverage (M, P) to labels (P,)."""
    owners = patch_owners(cover, np.ones(len(cover), dtype=bool))
    return values_of_owners(owners, keyword_ids, IGNORE, IGNORE)


def main() -> None:
    rng = np.random.default_rng(0)
    masks, boxes, ids = ellipses(rng), patch_boxes(), list(range(100, 100 + EXPRESSIONS))
    cover = coverage(masks, boxes)
    as_tensor = torch.from_numpy(cover.reshape(-1, GRID, GRID))
    stored = [encode_mask(mask) for mask in masks]
    assert our_labels(cover, ids).tolist() == loop_over_patches(as_tensor, ids).tolist()

    labels = interleaved_medians(
        {"loop": lambda: loop_over_patches(as_tensor, ids), "ours": lambda: our_labels(cover, ids)}, repeats=15
    )
    whole = interleaved_medians(
        {
            "loop": lambda: loop_over_pixels(np.stack([decode_mask(m) for m in stored]), boxes, ids),
            "ours": lambda: our_labels(coverage(np.stack([decode_mask(m) for m in stored]), boxes), ids),
        },
        repeats=15,
    )
    publish(
        "labels",
        f"Labels of {GRID * GRID} patches from {EXPRESSIONS} masks (aim for the first row: ratio ≥ 50)",
        [
            {"what": what, "loop_ms": 1e3 * t["loop"], "ours_ms": 1e3 * t["ours"], "ratio": t["loop"] / t["ours"]}
            for what, t in (("coverage → labels", labels), ("PNG 640×480 → labels", whole))
        ],
    )


if __name__ == "__main__":
    main()
