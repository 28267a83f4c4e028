"""The ablations in small: they run by one command, keep what is measured, and change scenes as they say."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fivl_hf.augment.scenes import scene_questions, scene_rows
from fivl_hf.demo.training import starting_model
from fivl_hf.images import open_rgb
from fivl_hf.masks import decode_mask
from fivl_hf.scenes.styles import HELD_OUT

FOLDER = Path(__file__).parents[2] / "examples" / "ablations"
sys.path.insert(0, str(FOLDER))

import attack  # noqa: E402 - a script's neighbours, as when the scripts run
import changes  # noqa: E402

SCRIPTS = sorted({path.stem for path in FOLDER.glob("*.py") if "main()" in path.read_text()} - {"evidence"})

MEASURED = [script for script in SCRIPTS if (FOLDER / "results" / f"{script}.md").exists()]


def run(script, output, *more):
    return subprocess.run(
        [sys.executable, FOLDER / f"{script}.py", "--output", str(output), *more],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def small(script, tmp_path):
    sizes = ["--seeds", "1", "--steps", "2", "--test-rows", "7", "--workers", "2"]
    return run(script, tmp_path / "results", *sizes, "--models", str(tmp_path / "models"))


@pytest.mark.parametrize("script", ["overlap", "tasks"])
def test_an_ablation_runs_and_is_not_run_twice(script, tmp_path):
    """Of patch-aligned scenes and of free ones."""
    first = small(script, tmp_path)
    assert first.returncode == 0, first.stderr[-2000:]
    assert (tmp_path / "results" / f"{script}.png").exists()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "results" / "runs").glob("*.json")}
    assert len(made) == 2
    again = small(script, tmp_path)
    assert again.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results" / "runs").glob("*.json")} == made


def test_every_script_has_a_table_and_the_page_shows_those_of_free_scenes():
    page = (FOLDER.parents[1] / "docs" / "evidence.md").read_text()
    assert MEASURED == SCRIPTS
    rows = (FOLDER / "README.md").read_text().partition("From random weights, with patch-aligned")[0]
    for script in SCRIPTS:
        if f"`{script}.py`" in rows:
            first = (FOLDER / "results" / f"{script}.md").read_text().split("| --- |")[0].splitlines()[2]
            assert first in page, script


@pytest.mark.parametrize("script", MEASURED)
def test_committed_tables_are_those_of_the_committed_runs(script, tmp_path):
    """Every table is made again from what was measured, without a training, and is the same to the last digit."""
    shutil.copytree(FOLDER / "results", tmp_path / "results")
    (tmp_path / "results" / f"{script}.md").unlink()
    runs = sorted((tmp_path / "results").rglob("*.json"))
    again = run(script, tmp_path / "results")
    assert again.returncode == 0, again.stderr[-2000:]
    assert sorted((tmp_path / "results").rglob("*.json")) == runs
    name = f"{script}.md"
    assert (tmp_path / "results" / name).read_text() == (FOLDER / "results" / name).read_text()


def test_the_committed_page_is_that_of_the_committed_tables(tmp_path):
    made = run("evidence", tmp_path)
    assert made.returncode == 0, made.stderr[-2000:]
    docs = FOLDER.parents[1] / "docs"
    assert (tmp_path / "evidence.md").read_text() == (docs / "evidence.md").read_text()
    for picture in (tmp_path / "evidence").iterdir():
        assert picture.read_bytes() == (docs / "evidence" / picture.name).read_bytes()


def test_committed_runs_say_what_they_measured():
    for path in (FOLDER / "results" / "runs").glob("*.json"):
        document = json.loads(path.read_text())
        assert 0 <= document["result"]["accuracy"] <= 1
        assert document["setting"]["steps"] > 0


@pytest.fixture(scope="module")
def scenes():
    return list(scene_rows("train", 30, seed=7, style="free"))


@pytest.mark.parametrize(
    ("kind", "lowest", "highest"),
    [
        ("filled", 0.5, 0.85),
        ("jittered", 0.4, 0.75),
        ("random", 0.0, 0.3),
        ("wrong", 0.0, 0.3),
        ("swell half", 0.3, 0.75),
    ],
)
def test_mask_errors_are_as_large_as_meant(scenes, kind, lowest, highest):
    """Mean overlap with the exact masks; boxes follow the masks."""
    rng = np.random.default_rng(0)
    overlaps = []
    for row in scenes:
        wrong = changes.with_mask_errors(row, kind, 1.0, rng)
        assert wrong["key_expressions"]
        exact = {(e["turn"], e["start"]): mask for e, mask in zip(row["key_expressions"], row["masks"], strict=True)}
        for expression, mask in zip(wrong["key_expressions"], wrong["masks"], strict=True):
            pixels = decode_mask(mask)
            exact_pixels = decode_mask(exact[expression["turn"], expression["start"]])
            overlaps.append((pixels & exact_pixels).sum() / (pixels | exact_pixels).sum())
            x0, y0, x1, y1 = map(int, expression["boxes"][0])
            assert pixels[y0:y1, x0:x1].sum() == pixels.sum()
    assert lowest <= np.mean(overlaps) <= highest


def test_missed_masks_take_their_expressions_along(scenes):
    rng = np.random.default_rng(0)
    rows = [changes.with_mask_errors(row, "missed", 0.4, rng) for row in scenes]
    kept = sum(len(row["masks"]) for row in rows) / sum(len(row["masks"]) for row in scenes)
    assert 0.45 < kept < 0.75
    assert all(len(row["masks"]) == len(row["key_expressions"]) for row in rows)


def test_training_rows_take_styles_in_turn_and_never_show_a_held_out_pair():
    rows = list(changes.training_rows(["free", "flipped"], 40, 0))
    assert [row["id"].split("-")[0] for row in rows[:4]] == ["free", "flipped", "free", "flipped"]
    texts = {expression["text"] for row in rows for expression in row["key_expressions"]}
    assert not texts & HELD_OUT
    questions = list(scene_questions("test", 40, 0, kinds=("color",)))
    assert 0 < sum(changes.names_unseen(row["answers"][0]) for row in questions) < 40


@pytest.mark.parametrize("kind", changes.IMAGE_CHANGES)
def test_changed_images_differ_and_are_the_same_each_time(scenes, kind):
    first, second = (changes.changed(scenes[:3], kind) for _ in range(2))
    assert first == second
    for row, new in zip(scenes, first, strict=False):
        before, after = (np.asarray(open_rgb(r["images"][0]), dtype=float) for r in (row, new))
        assert 0.5 < np.abs(before - after).mean() < 60


def test_attacked_images_stay_within_epsilon_and_make_the_answers_less_likely():
    model, processor = starting_model("random", 0)
    model.eval()
    rows = list(scene_questions("test", 6))

    def loss(rows):
        return np.mean([-values.mean() for values in _log_probabilities(model, processor, rows)])

    before = loss(rows)
    for epsilon in (2, 16):
        attacked = attack.attacked(model, processor, rows, epsilon)
        for row, new in zip(rows, attacked, strict=True):
            pixels = [np.asarray(open_rgb(each["images"][0]), dtype=int) for each in (row, new)]
            assert 0 < np.abs(pixels[0] - pixels[1]).max() <= epsilon
        after = loss(attacked)
        assert after > before
        before = after


def _log_probabilities(model, processor, rows):
    from fivl_hf.explain.effects import answer_tokens, token_log_probabilities
    from fivl_hf.explain.samples import prepare_batch, readable

    samples = prepare_batch(model, processor, [readable(row) for row in rows])
    found = token_log_probabilities(model, samples[0].inputs, [answer_tokens(sample) for sample in samples])
    return [values for values, _ in found]
