"""The paper's automatic quality check: a vision language model judges expressions and masks.

Of each sampled conversation, for every key expression it is asked how important the expression is (0 to 10), whether
the image shows it inside the mask (Seg1), and whether the image still shows something of it outside (Seg2).
"""

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fivl_hf.augment.expressions import ProtocolName
from fivl_hf.augment.judge_prompts import (
    JUDGE_VERSION,
    judge_messages,
    judge_reminder,
    judge_schema,
    parse_judgement,
)
from fivl_hf.bootstrap import clustered_mean_interval, clustered_wilson_interval, sums_and_counts
from fivl_hf.files.atomic import write_atomically, write_json
from fivl_hf.images import (
    PADDED_PATCHES,
    PADDED_SIDE,
    ImageError,
    data_url,
    image_bytes,
    open_rgb,
    padded_square,
    thumbnail,
)
from fivl_hf.llm.answers import AnswerCache, Reply, answer_key
from fivl_hf.llm.client import ChatClient
from fivl_hf.llm.settings import ChatRequest, ChatSettings, RequestError, ServiceError, Usage
from fivl_hf.masks import BoolArray, coverage, decode_mask
from fivl_hf.schema import FiVLRow, KeyExpression, RowError, validate_row
from fivl_hf.supervision import COVERAGE_BANDS, coverage_band

__all__ = ["Judged", "Judgement", "judge_rows", "summarize", "write_judgements"]

# Larger images cost more tokens and show no more of what is asked.
_SIDE = 768


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
    protocol: ProtocolName = "default",
    progress: Callable[[int], object] = bool,
) -> Judged:
    """Judge every key expression of samples drawn at random; answers are cached: a run that stopped can be resumed.

    Args:
        rows: dataset of FiVL rows with images left encoded (:func:`fivl_hf.storage.load_rows`).
        cache: SQLite file of the answers.
        samples: how many rows, drawn from those with key expressions.
        protocol: "paper" shows the judge what the paper's did for Seg1 and Seg2: the image padded to 336×336, each of
            24×24 patches darkened by how much of it the mask covers. By default the mask's own pixels are cut out.
        progress: called with the number of rows judged since the last call.

    Raises:
        ValueError: no key expression in the rows.
        RowError: a row that does not fit the schema.
    """
    numbers = [i for i, expressions in enumerate(rows["key_expressions"]) if expressions]
    if not numbers:
        raise ValueError("the rows have no key expressions to judge")
    chosen = sorted(random.Random(seed).sample(numbers, min(samples, len(numbers))))
    return asyncio.run(_judge_all(rows, chosen, settings, cache, protocol, progress))


async def _judge_all(
    rows: Any,
    numbers: Sequence[int],
    settings: ChatSettings,
    cache: Path,
    protocol: ProtocolName,
    progress: Callable[[int], object],
) -> Judged:
    answers, spent = AnswerCache(cache), Usage()
    client = ChatClient(settings, answers, spent)
    open_at_once = asyncio.Semaphore(settings.concurrency)
    stopped: list[ServiceError] = []

    async def judge_row(number: int) -> list[Judgement]:
        judgements: list[Judgement] = []
        async with open_at_once:
            for place, expression in enumerate(rows[number]["key_expressions"]):
                if stopped:
                    return judgements
                try:
                    judgements.append(await _judge(client, validate_row(rows[number]), place, protocol))
                except (RowError, ImageError) as error:
                    id, turn, text = rows[number]["id"], expression["turn"], expression["text"]
                    judgements.append(Judgement(id, turn, text, coverage=0.0, problem=str(error)))
                except ServiceError as error:
                    stopped.append(error)
            progress(1)
        return judgements

    try:
        results = await asyncio.gather(*map(judge_row, numbers), return_exceptions=True)
    finally:
        await client.close()
        answers.close()
    for error in results:
        if isinstance(error, BaseException):
            raise error
    judgements = [judgement for each in results if isinstance(each, list) for judgement in each]
    return Judged(judgements, spent, str(stopped[0]) if stopped else None)


async def _judge(client: ChatClient, row: FiVLRow, number: int, protocol: ProtocolName) -> Judgement:
    """Ask the three questions about one key expression."""
    expression, mask = row.key_expressions[number], decode_mask(row.masks[number])
    image = open_rgb(row.images[expression.image])
    inside, outside = _patches(image, mask) if protocol == "paper" else (_cut(image, mask), _cut(image, ~mask))
    views = {"importance": image, "seg1": inside, "seg2": outside}
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
    data = image_bytes(thumbnail(view, _SIDE), "JPEG", quality=90)
    url = data_url(data, "jpeg")
    turn = row.turns[expression.turn]
    digest = hashlib.sha256(data).hexdigest()
    # The prompts of Seg1 and Seg2 leave the turn out: the same expression and mask in two turns is one cached request.
    about = (turn.question, turn.answer) if kind == "importance" else ()
    return ChatRequest(
        key=answer_key(model, JUDGE_VERSION, kind, *about, expression.text, digest),
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


def _cut(image: Image.Image, mask: BoolArray) -> Image.Image:
    """Return an image black outside a mask."""
    pixels = np.array(image)
    pixels[~mask] = 0
    return Image.fromarray(pixels)


def _patches(image: Image.Image, mask: BoolArray) -> tuple[Image.Image, Image.Image]:
    """Return an image padded to 336×336 with each of 24×24 patches darkened by how much of it is outside the mask, and
    the same by how much is inside: the paper's views for Seg1 and Seg2."""
    longer = max(image.size)
    edges = np.arange(PADDED_PATCHES + 1) * longer / PADDED_PATCHES
    # Not clipped to the image: the released share of a patch at its border counts the padding, too.
    x, y = (edges - (longer - length) // 2 for length in image.size)
    boxes = [(x[c], y[r], x[c + 1], y[r + 1]) for r in range(PADDED_PATCHES) for c in range(PADDED_PATCHES)]
    share = coverage(mask[None], boxes)[0].reshape(PADDED_PATCHES, PADDED_PATCHES)
    patch = np.ones((PADDED_SIDE // PADDED_PATCHES, PADDED_SIDE // PADDED_PATCHES, 1))
    pixels = np.asarray(padded_square(image), dtype=np.float64)
    inside, outside = (pixels * np.kron(each[..., None], patch) for each in (share, 1 - share))
    return Image.fromarray(inside.round().astype(np.uint8)), Image.fromarray(outside.round().astype(np.uint8))


def summarize(judged: Judged) -> dict[str, Any]:
    """Return means with 95% intervals, over all and by mask coverage.

    Expressions of one sample are not independent: the degree's interval is from a bootstrap of samples, a share's is
    Wilson's at the effective sample size.
    """
    bands = {}
    for number, name in enumerate(COVERAGE_BANDS):
        bands[name] = _figures([each for each in judged.judgements if coverage_band(each.coverage) == number])
    return {
        "samples": len({judgement.id for judgement in judged.judgements}),
        "all": _figures(judged.judgements),
        "by_mask_coverage": bands,
        "without_usable_reply": sum(j.problem is not None for j in judged.judgements),
        "spent": asdict(judged.spent),
        "stopped": judged.stopped,
    }


def _figures(judgements: Sequence[Judgement]) -> dict[str, Any]:
    figures: dict[str, Any] = {"n": len(judgements)}
    for name, interval in (
        ("important", clustered_wilson_interval),
        ("seg1", clustered_wilson_interval),
        ("seg2", clustered_wilson_interval),
        ("degree", clustered_mean_interval),
    ):
        by_sample: dict[str, list[float]] = {}
        for judgement in judgements:
            if (value := getattr(judgement, name)) is not None:
                by_sample.setdefault(judgement.id, []).append(float(value))
        sums, counts = sums_and_counts(by_sample.values())
        figures[name] = {
            "mean": float(sums.sum() / counts.sum()) if by_sample else None,
            "confidence_interval": interval(sums, counts) if by_sample else None,
            "n": int(counts.sum()),
        }
    return figures


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
