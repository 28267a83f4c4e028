"""``fivl segment``: predicted segments against a prompted detector, of one model or of two side by side."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from fivl_hf.explain.pictures import sheet
from fivl_hf.explain.prompted import (
    PredictedSegment,
    PromptedScores,
    SegmentFile,
    SegmentFinder,
    predicted_segments,
    prompted_summary,
    score_segments,
)
from fivl_hf.explain.samples import Sample, prepare
from fivl_hf.files.atomic import write_json
from fivl_hf.files.managed_folders import replaced_files, require_own_folder
from fivl_hf.files.results import result_folder
from fivl_hf.images import ImageError
from fivl_hf.masks import BoolArray
from fivl_hf.schema import RowError
from fivl_hf.show.drawing import outline_masks
from fivl_hf.show.plots import paint_segments

__all__ = ["segmentation_table", "write_segmentation"]

# Words whose segments are drawn in one picture.
_DRAWN = 4
_FOOTING = "Outlines in the order of the words: orange, light blue, green, vermilion. Left what patches predict, right "
Loader = Callable[[], tuple[Any, Any]]


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
    with result_folder(output, about, kind="segmentation", files=files, restart=restart):
        require_own_folder(output / "pictures", "pictures")
        panels: list[dict[str, Image.Image]] = [{} for _ in range(min(pictures, len(rows)))]
        measured = {}
        for name, load in models.items():
            model, processor = load()
            file = SegmentFile(output / f"segments-{name}.jsonl")
            for number, row in enumerate(tqdm(rows, desc=f"segment: {name}", unit="row")):
                drawn = panels[number] if number < len(panels) else None
                if row["id"] in file.known and drawn is None:
                    continue
                scores = _row(model, processor, row, finder, name, drawn)
                if row["id"] not in file.known:
                    file.add(scores)
            measured[name] = prompted_summary(file, finder.thresholds)
            del model, processor
        (output / "segmentation.json").unlink(missing_ok=True)
        with replaced_files(output / "pictures", kind="pictures", last="") as folder:
            for number, (row, pair) in enumerate(zip(rows, panels, strict=False)):
                if pair:
                    shown = f"what a detector finds for these words ({_lowest(finder)})."
                    sheet(pair, [f"image of {row['id']}"], _FOOTING + shown).save(folder / f"{number:03d}.png")
        write_json(output / "segmentation.json", {**about, "models": measured})
    return measured


def _lowest(finder: SegmentFinder) -> str:
    return "exactly" if finder.thresholds[0] is None else f"threshold {finder.thresholds[0]:g}"


def _row(
    model: Any,
    processor: Any,
    row: Mapping[str, Any],
    finder: SegmentFinder,
    name: str,
    drawn: dict[str, Image.Image] | None,
) -> PromptedScores:
    """Return a row's scores; with ``drawn``, add its pictures to it."""
    try:
        sample = prepare(model, processor, row)
    except (RowError, ImageError) as error:
        return PromptedScores(str(row["id"]), problem=str(error))
    segments, left_out, tokens = predicted_segments(model, processor.tokenizer, sample)
    words, masks = score_segments(sample, segments, finder)
    if drawn is not None and sample.images:
        drawn.update(_panels(sample, segments, masks, name))
    return PromptedScores(sample.id, tokens, words, dict(left_out))


def _panels(
    sample: Sample, segments: Sequence[PredictedSegment], masks: Sequence[Sequence[BoolArray | None]], name: str
) -> dict[str, Image.Image]:
    """Draw the largest segments of the first image, and what was found for their words at the first threshold."""
    chosen = [i for i, segment in enumerate(segments) if segment.image == 0][:_DRAWN]
    image, in_image = sample.images[0], sample.image_of == 0
    listed = ", ".join(segments[i].word for i in chosen) or "no word"
    nothing = np.zeros((image.height, image.width), dtype=bool)
    found = [nothing if (mask := masks[i][0]) is None else mask for i in chosen]
    missing = ", ".join(segments[i].word for i in chosen if masks[i][0] is None)
    return {
        f"{name} predicts: {listed}": paint_segments(
            image, [segments[i].tokens[in_image] for i in chosen], sample.boxes[in_image]
        ),
        f"found for {name}" + (f", but no {missing}" if missing else ""): outline_masks(image, found),
    }


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
