"""The page of an evaluation: its numbers with their intervals, and every question with its images and answers."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from fivl_hf.evaluation.conditions import CONDITIONS, require_conditions
from fivl_hf.evaluation.judge import VERDICTS
from fivl_hf.evaluation.plan import Plan
from fivl_hf.evaluation.scorers import RIGHT
from fivl_hf.evaluation.summary import rescored
from fivl_hf.evaluation.table import ORIGINAL, Answer, answers_file, by_question, measured_with, read_answers
from fivl_hf.files.atomic import write_atomically
from fivl_hf.files.fingerprints import text_digest
from fivl_hf.images import data_url, image_bytes, thumbnail
from fivl_hf.show.pages import render_page
from fivl_hf.storage.reading import rows_fingerprint

__all__ = ["IMAGES", "PAGE", "finished_evaluation", "write_report"]

PAGE, IMAGES = "report.html", "report_images"

# Options of a plan that an evaluation records.
_PLAN_OPTIONS = ("turns", "prompt_suffix", "evidence", "dilation", "seed")
# Bytes of images that are still put into the page itself.
_EMBEDDED = 6_000_000
_QUALITY = 80


def write_report(
    folder: Path, rows: Any = None, *, questions: int = 5_000, side: int = 224, embedded: int = _EMBEDDED, seed: int = 0
) -> Path:
    """Write ``report.html`` into an evaluation's folder.

    Args:
        rows: that were asked about; without them the page has no images.
        questions: most to show; if there are more, a random sample of this size. The numbers are of all.
        side: longest side of the images, in pixels.
        embedded: bytes of images that the page holds itself; more are put into ``report_images`` beside it.
        seed: of that sample.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: the folder holds no answers, or no summary of them.
        ValueError: the summary is of other answers; the rows are not those that were asked about, or cannot be shown.
    """
    path, summary = answers_file(folder), finished_evaluation(folder)
    try:
        return _write(folder, path, summary, rows, questions=questions, side=side, embedded=embedded, seed=seed)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{folder / 'reliance.json'} cannot be shown ({error!r}): run fivl score {folder} to compute it again"
        ) from error


def _write(
    folder: Path,
    path: Path,
    summary: dict[str, Any],
    rows: Any,
    *,
    questions: int,
    side: int,
    embedded: int,
    seed: int,
) -> Path:
    conditions = sorted(require_conditions(list(summary["conditions"])), key=CONDITIONS.index)
    if rows is not None and rows_fingerprint(rows) != summary.get("rows_fingerprint"):
        raise ValueError(
            f"{folder} is about other rows than those of the dataset named: images would not fit the answers"
        )
    ids = list(dict.fromkeys(answer.id for answer in read_answers(path) if answer.condition == ORIGINAL))
    if len(ids) != summary["questions"]:
        raise ValueError(
            f"{folder}: reliance.json is about {summary['questions']:,} questions, {path.name} about {len(ids):,}: run "
            f"fivl score {folder}"
        )
    chosen, sampled = _sample(ids, questions, seed)
    answers = by_question(
        answer
        for answer in rescored(read_answers(path), summary["scoring"], folder / VERDICTS)
        if answer.id in chosen and answer.condition in conditions
    )
    pictures = _PageImages(folder / IMAGES, side, embedded)
    shown = {} if rows is None else _images(rows, summary, answers, pictures)
    # In the order of the rows, where they are known.
    answers = {id: answers[id] for id in {**shown, **answers}}
    ending = _common_ending(answers.values())
    data = {
        "conditions": conditions,
        "right": RIGHT,
        "questions": [_question(under, shown.get(id, {}), ending) for id, under in answers.items()],
        "images": pictures.embedded(),
        "folder": IMAGES,
    }
    page = render_page(
        "evaluation.html.jinja",
        summary=summary,
        losses_by_condition=_losses({name: summary["conditions"][name] for name in conditions}),
        by_category=_losses(summary["by_category"]) if len(summary["by_category"]) > 1 else [],
        categories=sorted({under.category for each in answers.values() for under in each.values()}),
        count=len(answers),
        # An older summary does not count them.
        everything=summary.get("scope") == "all",
        with_evidence=summary.get("questions_with_evidence", summary["n"]),
        sampled=sampled,
        ending=ending.strip(),
        # `<` is escaped, so that no answer can close the script element.
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    )
    write_atomically(folder / PAGE, page)
    pictures.remove_old()
    return folder / PAGE


def finished_evaluation(folder: Path) -> dict[str, Any]:
    """Return the ``reliance.json`` of an evaluation.

    Raises:
        FileNotFoundError: there is none yet.
        ValueError: it does not say what was measured.
    """
    answers_file(folder)
    if not (folder / "reliance.json").exists():
        raise FileNotFoundError(f"{folder} holds no reliance.json: finish the evaluation, or run fivl score {folder}")
    summary = measured_with(folder)
    if missing := [key for key in ("model", "dataset", "split") if not summary.get(key)]:
        raise ValueError(f"{folder / 'reliance.json'} does not say of which {missing[0]} it is")
    return summary


def _sample(ids: Sequence[str], most: int, seed: int) -> tuple[set[str], bool]:
    """Return the ids to show, and whether they are not all."""
    if len(ids) <= most:
        return set(ids), False
    return {ids[i] for i in np.random.default_rng(seed).choice(len(ids), most, replace=False)}, True


def _images(
    rows: Any, summary: Mapping[str, Any], answers: Mapping[str, Mapping[str, Answer]], pictures: "_PageImages"
) -> dict[str, dict[str, list[str]]]:
    """Return, by question and condition, the names of the images."""
    options = {name: summary[name] for name in _PLAN_OPTIONS if name in summary}
    plan = Plan(rows, list(summary["conditions"]), **options)
    shown: dict[str, dict[str, list[str]]] = {}
    total = sum(map(len, answers.values()))
    with tqdm(total=total, desc="Images", unit="image") as progress:
        for request in plan:
            if request.condition in answers.get(request.id, {}):
                names = [pictures.add(image) for image in request.open_images()]
                shown.setdefault(request.id, {})[request.condition] = names
                progress.update()
    return shown


def _common_ending(answers: Collection[Mapping[str, Answer]]) -> str:
    """Return the last line of the prompts if it is the same in all and not all that they say."""
    endings = {"\n" + answer.prompt.rpartition("\n")[2] for under in answers for answer in under.values()}
    lines = {"\n" in answer.prompt for under in answers for answer in under.values()}
    return endings.pop() if len(endings) == 1 and lines == {True} else ""


def _question(under: Mapping[str, Answer], images: Mapping[str, list[str]], ending: str) -> dict[str, Any]:
    first = next(iter(under.values()))
    return {
        "id": first.id,
        "prompt": first.prompt.removesuffix(ending),
        "references": list(dict.fromkeys(first.references)),
        "category": first.category,
        "evidence": first.has_evidence,
        "answers": {
            name: {"text": answer.answer, "score": round(answer.score, 3), "parsed": answer.parsed}
            for name, answer in under.items()
        },
        "images": images,
    }


def _losses(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return name, accuracy and loss of each result, with where its marks stand on a common axis, in percent."""
    found = []
    for name, each in results.items():
        loss = each.get("reliance", each.get("visual_reliance_score"))
        low, high = each.get("confidence_interval", (None, None))
        accuracy = each["accuracy"] if each["n"] else None
        if name == ORIGINAL:
            loss = low = high = None
        found.append({"name": name, "n": each["n"], "accuracy": accuracy, "loss": loss, "low": low, "high": high})
    measured = [value for each in found for value in (each["loss"], each["low"], each["high"]) if value is not None]
    least, most = min([0.0, *measured]), max([1.0, *measured])

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - least) / (most - least), 2)

    return [
        {**each, "zero": place(0.0), **{f"{name}_at": place(each[name]) for name in ("loss", "low", "high")}}
        for each in found
    ]


class _PageImages:
    """Small images by their content: held for the page while they are few, else in a folder beside it."""

    def __init__(self, folder: Path, side: int, limit: int) -> None:
        self._folder, self._side, self._limit = folder, side, limit
        self._held: dict[str, bytes] = {}
        self._names: set[str] = set()
        self._size = 0

    def add(self, image: Image.Image) -> str:
        """Keep an image; returns its name."""
        data = image_bytes(thumbnail(image, self._side), "JPEG", quality=_QUALITY)
        name = f"{text_digest(data.hex()):016x}"
        if name not in self._names:
            self._names.add(name)
            self._held[name] = data
            self._size += len(data)
            if self._size > self._limit:
                self._write()
        return name

    def _write(self) -> None:
        self._folder.mkdir(exist_ok=True)
        for name, data in self._held.items():
            (self._folder / f"{name}.jpg").write_bytes(data)
        self._held = {}

    def remove_old(self) -> None:
        """Remove the images of an earlier page."""
        kept = self._names - set(self._held)
        for path in self._folder.glob("*.jpg"):
            if path.stem not in kept:
                path.unlink()

    def embedded(self) -> dict[str, str]:
        """Return the images that are not in the folder, as data URLs by name."""
        return {name: data_url(data, "jpeg") for name, data in self._held.items()}
