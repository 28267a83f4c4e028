"""An index of a dataset's rows on disk: what can be searched, filtered and sorted."""

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fivl_hf.images import ImageError
from fivl_hf.masks import decode_mask
from fivl_hf.supervision import COVERAGE_BANDS, coverage_band

__all__ = ["SORTS", "RowFilter", "RowIndex"]

SORTS = {
    "dataset order": "number",
    "largest mask first": "coverage IS NULL, coverage DESC, number",
    "smallest mask first": "coverage IS NULL, coverage, number",
    "best score first": "score IS NULL, score DESC, number",
    "worst score first": "score IS NULL, score, number",
}
"""Orders of rows, by name. A row's coverage and score are those of its largest mask and its best expression."""

_SCHEMA = """
CREATE TABLE rows (
    number INTEGER PRIMARY KEY, id TEXT, source TEXT, text TEXT, words TEXT, turns INTEGER, score REAL, coverage REAL
);
CREATE TABLE sizes (number INTEGER, band INTEGER);
CREATE INDEX by_source ON rows (source);
CREATE INDEX by_band ON sizes (band, number);
"""


@dataclass(frozen=True)
class RowFilter:
    """Which rows are wanted; what is empty or None is not asked for.

    Attributes:
        search: words that stand in the id, the conversation or an expression, in upper or lower case.
        word: a noun among the keywords.
        source: of the row.
        band: size of at least one mask, one of ``COVERAGE_BANDS``.
        turns: minimum number.
        score: of the best expression, at least.
        sort: one of :data:`SORTS`.
    """

    search: str = ""
    word: str = ""
    source: str = ""
    band: str = ""
    turns: int = 0
    score: float | None = None
    sort: str = "dataset order"

    @property
    def needs_masks(self) -> bool:
        """Return whether it is about mask sizes, which are known later than the rest."""
        return bool(self.band) or "mask" in self.sort


class RowIndex:
    """Rows in a SQLite file; safe to write from one thread and read from others."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_SCHEMA}")
        self._lock = threading.Lock()
        self.indexed = self.measured = 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add the next rows: their ``id``, ``source``, conversation and ``key_expressions``."""
        listed = [(self.indexed + place, *_entry(row)) for place, row in enumerate(rows)]
        with self._lock, self._connection:
            self._connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", listed)
        self.indexed += len(listed)

    def measure(self, masks: Iterable[Sequence[Any]]) -> None:
        """Add the sizes of the next rows' masks, given encoded; one that cannot be read has none."""
        first = self.measured
        found = [(first + place, _coverages(each)) for place, each in enumerate(masks)]
        bands = [(number, band) for number, sizes in found for band in {coverage_band(size) for size in sizes}]
        with self._lock, self._connection:
            self._connection.executemany(
                "UPDATE rows SET coverage = ? WHERE number = ?", [(max(sizes), n) for n, sizes in found if sizes]
            )
            self._connection.executemany("INSERT INTO sizes VALUES (?, ?)", bands)
        self.measured += len(found)

    def sources(self) -> list[str]:
        """Return the sources of the rows indexed so far."""
        with self._lock:
            return [row[0] for row in self._connection.execute("SELECT DISTINCT source FROM rows ORDER BY source")]

    def find(self, wanted: RowFilter, start: int, count: int) -> tuple[list[int], int]:
        """Return row numbers, and how many there are in all, among the rows indexed so far.

        Args:
            start, count: which of the rows found.

        Raises:
            ValueError: a sort or mask size that there is not.
        """
        if wanted.sort not in SORTS:
            raise ValueError(f"rows are sorted by {', '.join(SORTS)}, got {wanted.sort!r:.60}")
        where, values = _condition(wanted)
        with self._lock:
            (total,) = self._connection.execute(f"SELECT COUNT(*) FROM rows WHERE {where}", values).fetchone()
            query = f"SELECT number FROM rows WHERE {where} ORDER BY {SORTS[wanted.sort]} LIMIT ? OFFSET ?"
            numbers = [row[0] for row in self._connection.execute(query, (*values, count, start))]
        return numbers, total


def _entry(row: Mapping[str, Any]) -> tuple[str, str, str, str, int, float | None]:
    expressions = row.get("key_expressions") or []
    if "messages" in row:
        texts = [message["content"] for message in row["messages"] or ()]
        turns = sum(message["role"] == "assistant" for message in row["messages"] or ())
    else:
        texts, turns = [row.get("question") or "", *(row.get("answers") or ())], 1
    words = {word.casefold() for each in expressions for word in each["keywords"]}
    scores = [each["score"] for each in expressions if each["score"] is not None]
    text = "\n".join([str(row.get("id")), *texts, *(each["text"] for each in expressions)]).casefold()
    return (
        str(row.get("id")),
        row.get("source") or "",
        text,
        f" {' '.join(sorted(words))} ",
        turns,
        max(scores, default=None),
    )


def _coverages(masks: Sequence[Any]) -> list[float]:
    sizes = []
    for mask in masks or ():
        try:
            # A path may be anybody's file: bytes alone are read.
            sizes.append(float(decode_mask((mask or {}).get("bytes") or b"").mean()))
        except ImageError:
            continue  # said where the row is shown
    return sizes


def _condition(wanted: RowFilter) -> tuple[str, list[Any]]:
    """Return the condition of a filter in SQL, and its values."""
    parts: list[tuple[str, Any]] = [
        ("text LIKE ? ESCAPE '\\'", f"%{_literal(word)}%") for word in wanted.search.split()
    ]
    if wanted.word.strip():
        parts.append(("words LIKE ? ESCAPE '\\'", f"% {_literal(wanted.word.strip())} %"))
    if wanted.source:
        parts.append(("source = ?", wanted.source))
    if wanted.band:
        if wanted.band not in COVERAGE_BANDS:
            raise ValueError(f"mask sizes are {', '.join(COVERAGE_BANDS)}, got {wanted.band!r:.60}")
        number = COVERAGE_BANDS.index(wanted.band)
        parts.append(("number IN (SELECT number FROM sizes WHERE band = ?)", number))
    if wanted.turns:
        parts.append(("turns >= ?", wanted.turns))
    if wanted.score is not None:
        parts.append(("score >= ?", wanted.score))
    return " AND ".join(["1", *(part for part, _ in parts)]), [value for _, value in parts]


def _literal(text: str) -> str:
    """Return a text in which nothing has a meaning for LIKE."""
    folded = text.casefold()
    for mark in "\\%_":
        folded = folded.replace(mark, f"\\{mark}")
    return folded
