"""``fivl segment``: predicted segments against a prompted detector, of one model or of two side by side."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from fivl_hf.explain.pictures import sheet
from fivl_hf.explain.prompted import (
    PromptedScores,
    SegmentFile,
    SegmentFinder,
    predicted_segments,
    prompted_summary,
    score_segments,
)
from fivl_hf.explain.samples import prepare
from fivl_hf.files.atomic import write_json
from fivl_hf.files.managed_folders import replaced_files, require_own_folder
from fivl_hf.files.results import result_folder
from fivl_hf.images import ImageError, open_rgb
from fivl_hf.schema import RowError, validate_row
from fivl_hf.show.drawing import COLOR_NAMES, outline_masks
from fivl_hf.show.plots import paint_segments

__all__ = ["segmentation_table", "write_segmentation"]

_NO_IMAGE = "it has no image"
# Words whose segments are drawn in one picture.
_DRAWN = 4
Loader = Callable[[], tuple[Any, Any]]
Panels = dict[str, Image.Image]


def write_segmentation(
    models: Mapping[str, Loader],
    rows: Sequence[Mapping[str, Any]],
    finder: SegmentFinder,
    output: Path,
    *,
    pictures: int = 8,
    about: Mapping[str, Any],
    restart: bool = False,
) -> dict[str, Any]:
    """Score the rows and write ``segmentation.json``, ``segments-NAME.jsonl`` and ``pictures/000.png``, ...

    The scores of every row are appended as they come; a run of the same ``about`` goes on where it was interrupted.

    Args:
        models: by name, functions that return a model and its processor; one is in memory at a time.
        pictures: how many rows to draw.
        about: what the results were measured with.
        restart: replace the results of another run.

    Returns:
        For each model, what :func:`fivl_hf.explain.prompted.prompted_summary` returns.

    Raises:
        ValueError: a model whose visual tokens do not predict, or a folder that holds results of another run.
        OSError: the folder is in use or cannot be written to.
    """
    files = ("segmentation.json", *(f"segments-{name}.jsonl" for name in models))
    shown = _first_with_images(rows, pictures)
    with result_folder(output, about, kind="segmentation", files=files, restart=restart):
        require_own_folder(output / "pictures", "pictures")
        measured, panels = {}, [Panels() for _ in shown]
        for name, load in models.items():
            model, processor = load()
            file = SegmentFile(output / f"segments-{name}.jsonl")
            for row in tqdm(rows, desc=f"segment: {name}", unit="row"):
                if row["id"] not in file.known:
                    file.add(_row_scores(model, processor, row, finder))
            for row, drawn in zip(shown, panels, strict=True):
                drawn.update(_panels(model, processor, row, finder, name))
            measured[name] = prompted_summary(file, finder.thresholds)
            del model, processor
        # Pictures are made again from here on: the file that marks the results as complete is written last.
        (output / "segmentation.json").unlink(missing_ok=True)
        _draw(output / "pictures", shown, panels, finder)
        write_json(output / "segmentation.json", {**about, "models": measured})
    return measured


def _first_with_images(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Return the first rows that have images which can be opened."""
    found: list[Mapping[str, Any]] = []
    for row in rows:
        if len(found) == count:
            break
        try:
            if validate_row(row).images and open_rgb(row["images"][0]):
                found.append(row)
        except (RowError, ImageError):
            continue  # listed among the problems
    return found


def _row_scores(model: Any, processor: Any, row: Mapping[str, Any], finder: SegmentFinder) -> PromptedScores:
    if not row.get("images"):
        return PromptedScores(str(row["id"]), problem=_NO_IMAGE)
    try:
        sample = prepare(model, processor, row)
    except (RowError, ImageError) as error:
        return PromptedScores(str(row["id"]), problem=str(error))
    segments, left_out, different_tokens = predicted_segments(model, processor.tokenizer, sample)
    words, _ = score_segments(sample, segments, finder)
    return PromptedScores(sample.id, different_tokens, words, dict(left_out))


def _panels(model: Any, processor: Any, row: Mapping[str, Any], finder: SegmentFinder, name: str) -> Panels:
    """Draw the largest segments of a row's first image, and what is found for their words at the first threshold."""
    sample = prepare(model, processor, row)
    segments = [each for each in predicted_segments(model, processor.tokenizer, sample)[0] if each.image == 0][:_DRAWN]
    masks = [found[0] for found in score_segments(sample, segments, finder)[1]]
    image, in_image = sample.images[0], sample.image_of == 0
    listed = ", ".join(f"{each.word} ({color})" for each, color in zip(segments, COLOR_NAMES, strict=False))
    missing = ", ".join(each.word for each, mask in zip(segments, masks, strict=True) if mask is None)
    nothing = np.zeros((image.height, image.width), dtype=bool)
    return {
        f"{name} predicts: {listed or 'no word'}": paint_segments(
            image, [each.tokens[in_image] for each in segments], sample.boxes[in_image]
        ),
        f"found for {name}" + (f", but no {missing}" if missing else ""): outline_masks(
            image, [nothing if mask is None else mask for mask in masks]
        ),
    }


def _draw(folder: Path, rows: Sequence[Mapping[str, Any]], panels: Sequence[Panels], finder: SegmentFinder) -> None:
    threshold = finder.thresholds[0]
    right = "the exact masks of" if threshold is None else f"what a detector finds at threshold {threshold:g} for"
    footing = f"Left: what the patches predict. Right: {right} these words."
    with replaced_files(folder, kind="pictures", last="") as scratch:
        for number, (row, drawn) in enumerate(zip(rows, panels, strict=True)):
            sheet(drawn, [f"image of {row['id']}"], footing).save(scratch / f"{number:03d}.png")


def segmentation_table(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of the paper's table: a model and a threshold each."""
    header = (
        f"{'threshold':>9}  {'model':<20} {'IoU':>5}  {'95% interval':>14}  {'found':>5}  {'tokens':>6}  {'words':>6}"
    )
    lines = [header]
    for threshold in next(iter(measured.values()))["by_threshold"]:
        for name, figures in measured.items():
            at = figures["by_threshold"][threshold]
            interval = at["confidence_interval"]
            between = f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "–"
            lines.append(
                f"{threshold:>9}  {name[:20]:<20} {_number(at['iou'], 2):>5}  {between:>14}  "
                f"{_number(at['share_found'], 2):>5}  {_number(figures['tokens_per_sample'], 1):>6}  "
                f"{_number(figures['words_per_sample'], 1):>6}"
            )
    return lines


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
