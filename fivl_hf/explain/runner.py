"""``fivl explain``: head map, best heads, segmentation and sample images of one model, written to a folder."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fivl_hf.explain.alignment import as_lists, summary
from fivl_hf.explain.analysis import BATCH_SIZE, Explanation, ProtocolName, explain_rows, gather
from fivl_hf.explain.folders import EXPLANATION, knockout_of, require_readable
from fivl_hf.explain.grounding import compare_boxes
from fivl_hf.explain.knockout import require_heads
from fivl_hf.explain.other_images import image_groups
from fivl_hf.explain.pictures import evidence_sheet, last_place
from fivl_hf.explain.report import write_heads_report
from fivl_hf.explain.samples import Sample, prepare
from fivl_hf.explain.score_table import write_score_table
from fivl_hf.explain.scores import ScoreFile
from fivl_hf.explain.selection import TOO_FEW, image_halves, rows_by_half
from fivl_hf.files.atomic import write_json
from fivl_hf.files.managed_folders import replaced_files, require_own_folder
from fivl_hf.files.processes import Processes, SharedFile
from fivl_hf.files.results import read_settings, result_folder
from fivl_hf.schema import RowError, validate_row
from fivl_hf.show.plots import depth_curves, head_map

__all__ = ["explanation_summary", "write_explanation"]

# What is written, the file that makes it complete first.
_SCORES = "scores.jsonl"
_FILES = (EXPLANATION, "head_map.png", "lens.png", "scores.parquet", _SCORES)
# Longest sides of the pictures, in pixels; between them, an image keeps its own.
_SMALLEST, _LARGEST = 288, 1600


def explanation_summary(found: Explanation, chosen_on: Explanation | None = None) -> dict[str, Any]:
    """Return an explanation as plain numbers; ``n`` counts key expressions.

    ``measures`` has AUROC, Spearman's correlation and the others, each with its own heads, intervals and chance level.
    ``best_head`` and ``top_heads`` were chosen on one half of the images (or on other rows, ``chosen_on``); their
    ``score`` and ``control`` are those on the other half. ``best_head`` is None, with a ``reason``, where there is no
    other half.
    """
    heads = found.best_heads(chosen_on=chosen_on)
    result = {
        "alignment": as_lists(found.alignment.mean()),
        "n": found.alignment.n,
        "top_heads": heads,
        "best_head": heads[0] if heads else None,
        "best_head_control": heads[0]["control"] if heads else None,
        "chosen_on": (chosen_on.alignment if chosen_on else found.choosing).n,
        "measured_on": (found.alignment if chosen_on else found.held_out).n,
        "control_alignment": as_lists(found.control.mean()),
        "measures": found.measures,
        "lens": found.lens.summary(),
        "by_scale": {scale: summary(found.by_scale[scale]) for scale in sorted(found.by_scale)},
        "segmentation": found.segmentation,
        "skipped": dict(found.skipped),
        "problems": found.problems,
    }
    if not heads:
        result["reason"] = TOO_FEW
    return result


def write_explanation(
    model: Any,
    processor: Any,
    rows: Iterable[Mapping[str, Any]],
    output: Path,
    *,
    batch_size: int = BATCH_SIZE,
    pictures: int = 8,
    boxes: int = 100,
    head: tuple[int, int] | None = None,
    word: str | None = None,
    chosen_on: Explanation | None = None,
    without_sinks: bool = False,
    protocol: ProtocolName = "default",
    about: Mapping[str, Any] | None = None,
    seed: int = 0,
    restart: bool = False,
) -> dict[str, Any]:
    """Explain the rows and write ``report.html``, ``explanation.json``, ``scores.parquet``, plots and ``pictures``.

    The scores of every row are appended to ``scores.jsonl`` as they come, and a run of the same ``about`` goes on
    where it was interrupted. Rows that cannot be read are listed under ``problems``. Where several processes run it
    (``accelerate launch``), each explains its share of the rows.

    Args:
        pictures: how many rows to draw, each as image, mask, one head's attention, predicted segment.
        boxes: how many rows to find boxes on (:func:`fivl_hf.explain.grounding.compare_boxes`); 0 for none.
        head: (layer, head) to draw; the best one by AUROC if not given.
        word: draw the attention while this word is written, in the rows that hold it, instead of the expression.
        chosen_on: what other rows gave; the best head is chosen on them.
        batch_size, without_sinks, protocol: see :func:`fivl_hf.explain.analysis.explain_rows`.
        about: what the results were measured with (:func:`fivl_hf.storage.provenance.provenance`); without it
            nothing of an earlier run is used.
        seed: of the halves of the images.
        restart: replace the results of another run.

    Returns:
        The content of ``explanation.json``.

    Raises:
        ValueError: a head the model does not have, a word that no answer says, rows without any key expression
            whose tokens can be found, or a folder that holds results of another run.
        OSError: the folder is in use or cannot be written to.
    """
    require_heads(model, [head] if head else [])
    indexed: Sequence[Mapping[str, Any]] = rows if hasattr(rows, "__getitem__") else list(rows)  # type: ignore[assignment]
    if word is not None and pictures and not _drawable(indexed, 1, word):
        raise ValueError(f"no answer says {word!r}")
    run = {**(about or {}), "dtype": str(model.dtype), "without_sinks": without_sinks, "protocol": protocol}
    processes = Processes.of_this_run()
    with processes.first_enters(_run_in(output, run, restart=restart or about is None)):
        shared = SharedFile(output / _SCORES)
        file = ScoreFile(shared.path)
        known = frozenset(file.known)
        processes.wait()  # the first process adds to what the others read
        if not processes.first:
            file = ScoreFile(shared.of(processes))
        groups = image_groups(indexed)
        for scores in explain_rows(
            model,
            processor,
            indexed,
            batch_size=batch_size,
            groups=groups,
            known=known,
            share=(processes.number, processes.count),
            keep_going=True,
            without_sinks=without_sinks,
            protocol=protocol,
        ):
            file.add(scores)
        processes.wait()
        if processes.first:
            shared.take_parts(partial(_take_scores, file))
            choosing = image_halves(file.images, seed)
            explanation = gather(file, choosing)
            result = {**run, "seed": seed, **explanation_summary(explanation, chosen_on)}
            _best_head(result)
            if boxes:
                numbers = islice(_usable(indexed, explanation.problems), boxes)
                result["localization"] = _localization(model, processor, indexed, list(numbers), groups, choosing)
            _finish(model, processor, indexed, file, output, explanation, result, pictures, head, word)
    return read_settings(output / EXPLANATION)


def _finish(
    model: Any,
    processor: Any,
    rows: Sequence[Mapping[str, Any]],
    file: ScoreFile,
    output: Path,
    explanation: Explanation,
    result: dict[str, Any],
    pictures: int,
    head: tuple[int, int] | None,
    word: str | None,
) -> None:
    """Draw, and write all that is made of the scores."""
    best = _best_head(result)
    layer, index = head or (best["layer"], best["head"])
    usable = (rows[number] for number in _usable(rows, explanation.problems))
    drawn = _drawable(usable, pictures, word)
    if knockout := knockout_of(output, result):
        result["knockout"] = knockout
    # Made again from here on: what marks the results as complete is written last.
    (output / EXPLANATION).unlink(missing_ok=True)
    _draw(model, processor, drawn, output, layer, index, word)
    title = "\n".join(f"{key}: {Path(str(result[key])).name}" for key in ("model", "dataset") if result.get(key))
    head_map(explanation.alignment.mean(), title, framed=(layer, index)).savefig(output / "head_map.png", dpi=150)
    (output / "lens.png").unlink(missing_ok=True)
    if ranks := result["lens"]["rank"]:
        depth_curves(ranks).savefig(output / "lens.png", dpi=150)
    write_score_table(file, output / "scores.parquet")
    write_json(output / EXPLANATION, result)
    write_heads_report(output)


@contextmanager
def _run_in(output: Path, run: Mapping[str, Any], *, restart: bool) -> Iterator[None]:
    """Check that the folder is this run's, and take in what an interrupted run left."""
    with result_folder(output, run, kind="explanation", files=_FILES, restart=restart):
        require_own_folder(output / "pictures", "pictures")
        require_readable(output)
        shared = SharedFile(output / _SCORES)
        shared.take_parts(lambda part: _take_scores(ScoreFile(shared.path), part), drop=restart)
        yield


def _usable(rows: Sequence[Mapping[str, Any]], problems: Collection[str]) -> Iterator[int]:
    """Yield the numbers of the rows without problems; a row is read when its turn comes."""
    return (number for number, row in enumerate(rows) if row.get("id") not in problems)


def _take_scores(file: ScoreFile, part: Path) -> None:
    for scores in ScoreFile(part):
        if scores.id not in file.known:
            file.add(scores)


def _localization(
    model: Any,
    processor: Any,
    rows: Sequence[Mapping[str, Any]],
    numbers: Sequence[int],
    groups: Sequence[str],
    choosing_images: Collection[str],
) -> dict[str, Any]:
    """Return the comparison of boxes on some rows, or the reason why there is none."""
    progress = tqdm(total=len(numbers), desc="Finding boxes", unit="row")

    def prepared(numbers: Iterable[int]) -> Iterator[tuple[str, Sample]]:
        for number in numbers:
            yield groups[number], prepare(model, processor, rows[number])
            progress.update()

    with progress:
        try:
            choosing, measuring = rows_by_half(numbers, groups, choosing_images)
            return compare_boxes(model, (sample for _, sample in prepared(choosing)), prepared(measuring))
        except ValueError as error:
            return {"reason": str(error)}


def _best_head(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the best head by AUROC over all images; raises ValueError if none could be compared with a mask."""
    heads: list[dict[str, Any]] = result["measures"].get("auroc", {}).get("top_heads", [])
    if not heads:
        problem = next(iter(result["problems"].values()), None)
        raise ValueError(
            "no row has a key expression whose tokens and mask can be compared" + (f": {problem}" if problem else "")
        )
    return heads[0]


def _draw(
    model: Any,
    processor: Any,
    drawn: Sequence[Mapping[str, Any]],
    output: Path,
    layer: int,
    head: int,
    word: str | None,
) -> None:
    with replaced_files(output / "pictures", kind="pictures", last="") as folder:
        for number, row in enumerate(drawn):
            sample = prepare(model, processor, row)
            if word is not None or len(sample.evidence[0].tokens):
                shown = sample.images[sample.evidence[0].expression.image]
                side = min(max(_SMALLEST, *shown.size), _LARGEST)
                drawing = evidence_sheet(model, sample, 0, layer, head, word=word, side=side)
                drawing.save(folder / f"{number:03d}.png")


def _drawable(rows: Iterable[Mapping[str, Any]], count: int, word: str | None) -> list[Mapping[str, Any]]:
    """Return the first rows that can be drawn."""
    found: list[Mapping[str, Any]] = []
    for row in rows:
        if len(found) == count:
            break
        try:
            answers = [turn.answer for turn in validate_row(row).turns] if row.get("key_expressions") else []
        except RowError:
            continue  # listed among the problems
        if answers and (word is None or last_place(answers, word) is not None):
            found.append(row)
    return found
