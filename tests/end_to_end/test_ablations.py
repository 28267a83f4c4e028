"""The ablations in small: they run by one command, keep what is measured, and change scenes as they say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.images import open_image
from fivl_hf.masks import decode_mask
from fivl_hf.scenes.rendering import scene

FOLDER = Path(__file__).parents[2] / "examples" / "ablations"
sys.path.insert(0, str(FOLDER))

import variations  # noqa: E402 - a script's neighbour, as when the scripts run

SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if "main()" in path.read_text())


def run(script, output, *more):
    small = ["--seeds", "1", "--steps", "2", "--test-rows", "4", "--workers", "2", "--output", str(output)]
    return subprocess.run(
        [sys.executable, FOLDER / f"{script}.py", *small, *more],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_an_ablation_runs_and_is_not_run_twice(tmp_path):
    first = run("overlap", tmp_path)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "| first |" in first.stdout
    assert (tmp_path / "overlap.png").exists()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*.json")}
    assert len(made) == 2
    assert run("overlap", tmp_path).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*.json")} == made


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name != "robustness"])
def test_committed_results_are_complete(script):
    """Table and image of each ablation, three seeds each, from runs that are committed, too."""
    text = (FOLDER / "results" / f"{script}.md").read_text()
    assert "3 seeds" in text
    assert (FOLDER / "results" / f"{script}.png").exists()


def test_committed_runs_say_what_they_measured():
    for path in (FOLDER / "results" / "runs").glob("*.json"):
        document = json.loads(path.read_text())
        assert 0 <= document["result"]["accuracy"] <= 1
        assert document["setting"]["steps"] == 600


@pytest.fixture(scope="module")
def scenes():
    return list(scene_rows("test", 30, seed=7))


@pytest.mark.parametrize(
    ("kind", "lowest", "highest"),
    [("dilate", 0.1, 0.75), ("shift", 0.0, 0.75), ("random", 0.0, 0.5), ("swell half", 0.3, 0.75), ("swap", 0.2, 0.9)],
)
def test_mask_errors_are_as_large_as_meant(scenes, kind, lowest, highest):
    """Mean overlap with the exact masks; boxes follow the masks."""
    rng = np.random.default_rng(0)
    overlaps = []
    for row in scenes:
        wrong = variations.with_mask_errors(row, kind, rng)
        for expression, mask in zip(wrong["key_expressions"], wrong["masks"], strict=True):
            exact = row["masks"][[e["text"] for e in row["key_expressions"]].index(expression["text"])]
            pixels = decode_mask(mask)
            exact_pixels = decode_mask(exact)
            overlaps.append((pixels & exact_pixels).sum() / (pixels | exact_pixels).sum())
            x0, y0, x1, y1 = map(int, expression["boxes"][0])
            assert pixels[y0:y1, x0:x1].sum() == pixels.sum()
    assert lowest <= np.mean(overlaps) <= highest


def test_dropped_masks_take_their_expressions_along(scenes):
    rng = np.random.default_rng(0)
    rows = [variations.with_mask_errors(row, "drop", rng) for row in scenes]
    kept = sum(len(row["masks"]) for row in rows) / sum(len(row["masks"]) for row in scenes)
    assert 0.3 < kept < 0.7
    assert all(len(row["masks"]) == len(row["key_expressions"]) for row in rows)


def test_left_out_pairs_are_not_seen_and_are_asked_for():
    rows = list(variations.training_rows(50, 0, held_out=True))
    assert len(rows) == 50
    names = {thing.name for row in rows for thing in scene(row["id"]).objects}
    assert not names & variations.HELD_OUT
    # Each colour and each shape is there, in other pairs.
    assert len({name.split()[0] for name in names}) == len({name.split()[1] for name in names}) == 6
    assert all(variations.asks_unseen(row) for row in variations.untraining_rows(5, 0))


@pytest.mark.parametrize("kind", variations.IMAGE_CHANGES)
def test_changed_images_differ_and_are_the_same_each_time(scenes, kind):
    first, second = (variations.changed(scenes[:3], kind) for _ in range(2))
    assert first == second
    for row, new in zip(scenes, first, strict=False):
        before, after = (np.asarray(open_image(r["images"][0]).convert("RGB"), dtype=float) for r in (row, new))
        assert 2 < np.abs(before - after).mean() < 200
