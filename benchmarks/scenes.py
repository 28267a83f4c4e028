"""Scenes per second on one core: rendered alone, and as rows with key expressions and masks. Aim: 500 rendered."""

from collections.abc import Callable
from functools import partial
from typing import Any

from table import interleaved_medians, publish

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.scenes.catalog import ALIGNED, find_scene, scene_ids

COUNT = 200
REPEATS = 9


def main() -> None:
    styles = (ALIGNED, "free", "grid", "photographs")
    variants: dict[str, Callable[[], Any]] = {
        **{f"{style}, rendered": partial(_render, style) for style in styles},
        **{f"{style}, rows": partial(_rows, style) for style in styles},
    }
    seconds = interleaved_medians(variants, REPEATS)
    rows = [
        {
            "scenes": style,
            "rendered_per_s": round(COUNT / seconds[f"{style}, rendered"]),
            "rows_per_s": round(COUNT / seconds[f"{style}, rows"]),
            "rendering's share": seconds[f"{style}, rendered"] / seconds[f"{style}, rows"],
        }
        for style in styles
    ]
    publish("scenes", "Scenes on one core (aim: 500 rendered per second)", rows)


def _render(style: str) -> None:
    for scene_id in scene_ids(style, "train", 1, 0, COUNT):
        find_scene(scene_id).image()


def _rows(style: str) -> None:
    assert sum(1 for _ in scene_rows("train", COUNT, 1, style=style)) == COUNT


if __name__ == "__main__":
    main()
