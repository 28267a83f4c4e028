"""The paper's automatic quality check: a vision language model judges expressions and masks.

For each sampled key expression it is asked how important the expression is (0 to 10), whether the image shows it
inside the mask (Seg1), and whether the image still shows something of it outside (Seg2).
"""

import asyncio
import base64
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fivl_hf.augment.judge_prompts import (
    JUDGE_VERSION,
    judge_messages,
    judge_reminder,
    judge_schema,
    parse_judgement,
)
from fivl_hf.bootstrap import bootstrap_interval
from fivl_hf.files.atomic import write_atomically, write_json
from fivl_hf.images import ImageError, image_bytes, open_rgb
from fivl_hf.llm.answers import AnswerCache, Reply, answer_key
from fivl_hf.llm.client import ChatClient
from fivl_hf.llm.settings import ChatRequest, ChatSettings, RequestError, ServiceError, Usage
from fivl_hf.masks import BoolArray, decode_mask
from fivl_hf.schema import FiVLRow, KeyExpression, RowError, validate_row

__all__ = ["Judged", "Judgement", "judge_rows", "summarize", "write_judgements"]

# Larger images cost more tokens and show no more of what is asked.
_SIDE = 768
_BANDS = (0.0, 0.05, 0.2, 0.5, 1.0)
_RESAMPLES = 2000


@dataclass(frozen=True)
class Judgement:
    """The judgement of one key expression; None where the judge gave no usable reply, which ``problem`` explains.

    Attributes:
        coverage: share of the image that the mask covers.
        important: whether the expression matters for question and image.
        degree: how much, 0 to 10.
        seg1: whether the image inside the mask shows the expression; yes is good.
        seg2: whether the image outside the mask still shows something of it; no is good.
    """

    id: str
    turn: int
    text: str
    coverage: float
    important: bool | None = None
    degree: int | None = None
    seg1: bool | None = None
    seg2: bool | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Judged:
    """All judgements of a run; ``stopped`` says why it is not complete."""

    judgements: list[Judgement]
    spent: Usage
    stopped: str | None = None


def judge_rows(
    rows: Any,
    settings: ChatSettings,
    cache: Path,
    *,
    samples: int = 500,
    seed: int = 0,
    progress: Callable[[int], object] = bool,
) -> Judged:
    """Judge key expressions drawn at random; answers are cached, so a run that was stopped can be resumed.

    Args:
        rows: dataset of FiVL rows with images left encoded (:func:`fivl_hf.storage.load_rows`).
        cache: SQLite file of the answers.
        samples: how many key expressions.
        progress: called with the number of expressions judged since the last call.

    Raises:
        ValueError: no key expression in the rows.
        RowError: a row that does not fit the schema.
    """
    places = [(i, j) for i, items in enumerate(rows["key_expressions"]) for j in range(len(items))]
    if not places:
        raise ValueError("the rows have no key expressions to judge")
    chosen = sorted(random.Random(seed).sample(places, min(samples, len(places))))
    return asyncio.run(_judge_all(rows, chosen, settings, cache, progress))


async def _judge_all(
    rows: Any,
    places: Sequence[tuple[int, int]],
    settings: ChatSettings,
    cache: Path,
    progress: Callable[[int], object],
) -> Judged:
    answers, spent = AnswerCache(cache), Usage()
    client = ChatClient(settings, answers, spent)
    open_at_once = asyncio.Semaphore(settings.concurrency)
    stopped: list[ServiceError] = []

    async def one(place: tuple[int, int]) -> Judgement | None:
        async with open_at_once:
            if stopped:
                return None
            try:
                judgement = await _judge(client, validate_row(rows[place[0]]), place[1])
                progress(1)
                return judgement
            except (RowError, ImageError) as error:
                expression = rows[place[0]]["key_expressions"][place[1]]
                return Judgement(rows[place[0]]["id"], expression["turn"], expression["text"], 0.0, problem=str(error))
            except ServiceError as error:
                stopped.append(error)
                return None

    try:
        found = await asyncio.gather(*(one(place) for place in places), return_exceptions=True)
    finally:
        await client.close()
        answers.close()
    for error in found:
        if isinstance(error, BaseException):
            raise error
    judgements = [judgement for judgement in found if isinstance(judgement, Judgement)]
    return Judged(judgements, spent, str(stopped[0]) if stopped else None)


async def _judge(client: ChatClient, row: FiVLRow, number: int) -> Judgement:
    """Ask the three questions about one key expression."""
    expression, mask = row.key_expressions[number], decode_mask(row.masks[number])
    image = open_rgb(row.images[expression.image])
    views = {
        "importance": image,
        "seg1": _blacked_out(image, ~mask),
        "seg2": _blacked_out(image, mask),
    }
    answers: dict[str, Any] = {}
    problems = []
    for kind, view in views.items():
        try:
            answers.update(await client.ask(_request(kind, view, row, expression, client.settings.model)))
        except RequestError as error:
            problems.append(f"{kind}: {error}")
    return Judgement(
        row.id,
        expression.turn,
        expression.text,
        round(float(mask.mean()), 6),
        **answers,
        problem="; ".join(problems) or None,
    )


def _request(kind: str, view: Image.Image, row: FiVLRow, expression: KeyExpression, model: str) -> ChatRequest:
    small = view.copy()
    small.thumbnail((_SIDE, _SIDE))
    data = image_bytes(small, "JPEG", quality=90)
    url = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    turn = row.turns[expression.turn]
    digest = hashlib.sha256(data).hexdigest()
    return ChatRequest(
        key=answer_key(model, JUDGE_VERSION, kind, turn.question, turn.answer, expression.text, digest),
        prompt=f"{JUDGE_VERSION}/{kind}",
        messages=lambda format: judge_messages(kind, format, turn, expression.text, url),
        schema=judge_schema(kind),
        read=partial(_read, kind),
        reminder=partial(judge_reminder, kind),
        asked={"id": row.id, "turn": expression.turn, "text": expression.text},
    )


def _read(kind: str, reply: Reply) -> dict[str, Any]:
    if reply.problem:
        raise ValueError(reply.problem)
    return parse_judgement(kind, reply.text, reply.format)


def _blacked_out(image: Image.Image, mask: BoolArray) -> Image.Image:
    pixels = np.array(image)
    pixels[mask] = 0
    return Image.fromarray(pixels)


def summarize(judged: Judged) -> dict[str, Any]:
    """Means with 95% intervals (Wilson's for shares, bootstrap for the degree), over all and by mask coverage."""
    bands = {}
    for low, high in pairwise(_BANDS):
        inside = [j for j in judged.judgements if low <= j.coverage < high or (high == 1.0 and j.coverage == 1.0)]
        bands[f"{low:.0%} to {high:.0%}"] = _figures(inside)
    return {
        "all": _figures(judged.judgements),
        "by_mask_coverage": bands,
        "without_usable_reply": sum(j.problem is not None for j in judged.judgements),
        "spent": asdict(judged.spent),
        "stopped": judged.stopped,
    }


def _figures(judgements: Sequence[Judgement]) -> dict[str, Any]:
    figures: dict[str, Any] = {"n": len(judgements)}
    for name in ("important", "seg1", "seg2"):
        values = [value for j in judgements if (value := getattr(j, name)) is not None]
        figures[name] = _share(sum(values), len(values))
    degrees = np.array([j.degree for j in judgements if j.degree is not None], dtype=np.float64)
    figures["degree"] = _mean(degrees)
    return figures


def _share(successes: int, n: int) -> dict[str, Any]:
    """Return a share with Wilson's score interval."""
    if not n:
        return {"mean": None, "confidence_interval": None, "n": 0}
    z, p = 1.959964, successes / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return {"mean": p, "confidence_interval": [float(max(0, center - half)), float(min(1, center + half))], "n": n}


def _mean(values: np.ndarray) -> dict[str, Any]:
    if not len(values):
        return {"mean": None, "confidence_interval": None, "n": 0}
    if len(values) == 1:
        return {"mean": float(values[0]), "confidence_interval": None, "n": 1}
    interval = bootstrap_interval(lambda chosen: values[chosen].mean(axis=1), len(values), resamples=_RESAMPLES)
    return {"mean": float(values.mean()), "confidence_interval": interval and list(interval), "n": len(values)}


def write_judgements(folder: Path, judged: Judged) -> dict[str, Any]:
    """Write ``judge.json`` (the summary, which is returned) and ``judgements.jsonl``."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarize(judged)
    # The summary marks the results as complete.
    (folder / "judge.json").unlink(missing_ok=True)
    write_atomically(folder / "judgements.jsonl", "".join(_lines(judged.judgements)))
    write_json(folder / "judge.json", summary)
    return summary


def _lines(judgements: Sequence[Judgement]) -> Iterator[str]:
    return (json.dumps(asdict(judgement), ensure_ascii=False) + "\n" for judgement in judgements)
