"""Items of an annotation study: key expressions drawn from a dataset, found again when the study goes on."""

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from fivl_hf.files.appended import AppendedLines
from fivl_hf.images import encoded_bytes
from fivl_hf.masks import decode_mask
from fivl_hf.schema import RowError, validate_row
from fivl_hf.supervision import coverage_band

__all__ = [
    "Item",
    "Strategy",
    "Verdict",
    "Verdicts",
    "draw_items",
    "item_digest",
    "judge_verdicts",
    "make_item",
    "matching_rows",
    "numbers_by_id",
    "row_of_key",
    "with_gold",
]

Strategy = Literal["random", "stratified", "disagreement"]
# Expressions whose masks are measured to stratify, for each that is drawn.
_POOL = 20
_SMALLEST_POOL = 2_000
# One gold item per ten.
_GOLD_EVERY = 10


@dataclass(frozen=True)
class Item:
    """A key expression to annotate.

    Attributes:
        id: of its row.
        place: its index among the row's key expressions.
        source: of its row.
        coverage: share of the image that its mask covers.
        digest: of everything that an annotator sees of it (:func:`item_digest`).
        weight: how many expressions of the dataset it represents, up to a common factor; 1 unless the draw is
            stratified.
        gold: whether its right answers are known.
    """

    id: str
    place: int
    turn: int
    text: str
    source: str
    coverage: float
    digest: str
    weight: float = 1.0
    gold: bool = False

    @property
    def key(self) -> str:
        """Return its name in files of annotations."""
        return f"{self.id}/{self.place}"

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Item":
        """Read one back; raises KeyError, TypeError or ValueError for something else."""
        item = cls(**raw)
        texts = isinstance(item.id, str) and isinstance(item.text, str) and isinstance(item.digest, str)
        if not (texts and isinstance(item.place, int) and item.place >= 0):
            raise ValueError("an item needs an id, a place, a text and a digest")
        return item

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """The judgement of ``fivl judge`` on a key expression; None where it gave no usable reply."""

    important: bool | None
    seg1: bool | None
    seg2: bool | None

    @property
    def against(self) -> int:
        """Count its answers that speak against expression or mask, of three."""
        return (self.important is False) + (self.seg1 is False) + (self.seg2 is True)


Verdicts = Mapping[tuple[str, int, str], Verdict]
"""The judge's verdicts by row id, turn and text of the expression."""


def item_digest(row: Mapping[str, Any], place: int) -> str:
    """Hash what an annotator sees of a key expression: conversation, image, mask, boxes, words."""
    expression = row["key_expressions"][place]
    content = hashlib.sha256()
    shown = [row.get("messages"), row.get("question"), row.get("answers")]
    fields = {name: expression[name] for name in ("turn", "text", "start", "end", "boxes", "image")}
    content.update(json.dumps([row["id"], shown, fields], sort_keys=True).encode())
    for image in (row["images"][expression["image"]], row["masks"][place]):
        content.update(hashlib.sha256(encoded_bytes(image)).digest())
    return content.hexdigest()[:16]


def make_item(row: Mapping[str, Any], place: int) -> Item:
    """Return the item of a row's key expression; raises ImageError for a mask or an image that cannot be read."""
    expression = row["key_expressions"][place]
    return Item(
        id=row["id"],
        place=place,
        turn=expression["turn"],
        text=expression["text"],
        source=row["source"] or "",
        coverage=round(float(decode_mask(row["masks"][place]).mean()), 6),
        digest=item_digest(row, place),
    )


def draw_items(
    rows: Any,
    *,
    sample: int,
    strategy: Strategy = "random",
    seed: int = 0,
    verdicts: Verdicts | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    on_skip: Callable[[str], object] = bool,
) -> list[Item]:
    """Draw key expressions of a dataset, in the order in which they are annotated.

    Args:
        rows: dataset of rows, images left encoded (:func:`fivl_hf.storage.load_rows`).
        sample: how many; all if there are fewer.
        strategy: "random"; "stratified": as many of each source and group of mask sizes, as long as there are
            enough; "disagreement": those the judge speaks against, most answers against first, then others it judged.
        verdicts: the judge's, by row id, turn and text; needed for "disagreement".
        progress: wraps the expressions while their masks are read.
        on_skip: called with a message for each expression of a row that does not fit the schema; it is left out.

    Raises:
        ValueError: no key expressions, or none with a verdict.
    """
    rng = random.Random(seed)
    candidates = [
        (number, place) for number, listed in enumerate(rows["key_expressions"]) for place in range(len(listed))
    ]
    if not candidates:
        raise ValueError("the rows have no key expressions to annotate")
    rng.shuffle(candidates)
    if strategy == "disagreement":
        candidates = _most_disputed(rows, candidates, verdicts or {})
    pool = max(_POOL * sample, _SMALLEST_POOL) if strategy == "stratified" else sample
    items: list[Item] = []
    for number, place in chain(progress(candidates[:pool]), candidates[pool:]):
        if len(items) == pool:
            break
        try:
            validate_row(row := rows[number])
            items.append(make_item(row, place))
        except RowError as error:
            on_skip(str(error))
    if not items:
        raise ValueError("none of the rows with key expressions fits the schema")
    return _stratified(items, sample, rng) if strategy == "stratified" else items


def _most_disputed(rows: Any, candidates: Sequence[tuple[int, int]], verdicts: Verdicts) -> list[tuple[int, int]]:
    """Return the candidates that were judged, the most disputed first; equals stay in their order."""
    listed, ids = list(rows["key_expressions"]), list(rows["id"])
    against: dict[tuple[int, int], int] = {}
    for number, place in candidates:
        expression = listed[number][place]
        verdict = verdicts.get((ids[number], expression["turn"], expression["text"]))
        if verdict is not None:
            against[number, place] = verdict.against
    if not against:
        raise ValueError("none of these key expressions was judged: give the judgements.jsonl of this dataset")
    return sorted(against, key=lambda each: -against[each])


def _stratified(items: Sequence[Item], sample: int, rng: random.Random) -> list[Item]:
    """Take items of every source and group of mask sizes in turn, weighted by how common theirs is."""
    strata: dict[tuple[str, int], list[Item]] = defaultdict(list)
    for item in items:
        strata[item.source, coverage_band(item.coverage)].append(item)
    queues = [list(strata[key]) for key in sorted(strata)]
    drawn: list[list[Item]] = [[] for _ in queues]
    while sum(map(len, drawn)) < min(sample, len(items)):
        for queue, taken in zip(queues, drawn, strict=True):
            if queue and sum(map(len, drawn)) < sample:
                taken.append(queue.pop())
    weighted = [
        replace(item, weight=round((len(queue) + len(taken)) / len(taken), 6))
        for queue, taken in zip(queues, drawn, strict=True)
        for item in taken
    ]
    rng.shuffle(weighted)
    return weighted


def with_gold(items: Sequence[Item], gold: Sequence[Item]) -> list[Item]:
    """Return the items with gold ones, whose answers are known, mixed in: one in ten while they last, the rest at
    the end."""
    known = {each.key for each in gold}
    mixed: list[Item] = []
    waiting = [replace(each, gold=True) for each in gold]
    for item in (each for each in items if each.key not in known):
        if waiting and len(mixed) % _GOLD_EVERY == _GOLD_EVERY // 2:
            mixed.append(waiting.pop(0))
        mixed.append(item)
    return mixed + waiting


def matching_rows(rows: Any, items: Iterable[Item]) -> tuple[dict[str, int], list[str]]:
    """Find the rows of items in a dataset that may have changed.

    Returns:
        the row's number by the item's key, and the keys of items that are gone or look different now.
    """
    numbers = numbers_by_id(rows)
    by_key: dict[str, int] = {}
    changed = []
    for item in items:
        number, place = row_of_key(rows, numbers, item.key) or (None, 0)
        if number is None or item_digest(rows[number], place) != item.digest:
            changed.append(item.key)
        else:
            by_key[item.key] = number
    return by_key, changed


def numbers_by_id(rows: Any) -> dict[str, int]:
    """Return the number of each row of a dataset by its id."""
    return {id: number for number, id in enumerate(rows["id"])}


def row_of_key(rows: Any, numbers: Mapping[str, int], key: str) -> tuple[int, int] | None:
    """Return the row's number and the expression's place that an item's key names; None if the dataset has none.

    Args:
        numbers: of :func:`numbers_by_id`.
    """
    id, _, place = key.rpartition("/")
    if id not in numbers or not place.isdecimal() or int(place) >= len(rows[numbers[id]]["key_expressions"]):
        return None
    return numbers[id], int(place)


def judge_verdicts(path: Path) -> dict[tuple[str, int, str], Verdict]:
    """Read the ``judgements.jsonl`` of ``fivl judge``: verdicts by row id, turn and text.

    Of expressions with the same text in one turn, the last one's verdict counts for all.

    Raises:
        ValueError: another file, with the line that is wrong.
        OSError: it cannot be read.
    """
    path.stat()
    return dict(AppendedLines(path, "a judgement of fivl judge", read=_judgement, write=lambda _: {}, finished=True))


def _judgement(raw: Any) -> tuple[tuple[str, int, str], Verdict]:
    answers = [raw[name] for name in ("important", "seg1", "seg2")]
    if not all(answer is None or isinstance(answer, bool) for answer in answers):
        raise ValueError("important, seg1 and seg2 are true, false or null")
    if not (isinstance(raw["id"], str) and isinstance(raw["turn"], int) and isinstance(raw["text"], str)):
        raise ValueError("id and text are texts, turn is a whole number")
    return (raw["id"], raw["turn"], raw["text"]), Verdict(*answers)
