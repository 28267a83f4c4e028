"""The contents of a dataset: how many expressions of which kinds, how large their masks are, from which sources."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fivl_hf.augment.counts import (
    BOXES,
    COVERAGE,
    COVERAGE_BINS,
    EXPRESSIONS,
    KINDS,
    PER_ROW,
    PER_TURN,
    ROWS,
    ROWS_WITH_EVIDENCE,
    TURNS,
    TURNS_WITH_EVIDENCE,
    WORDS,
)
from fivl_hf.supervision import LARGEST_MASK

__all__ = ["RELIABLE", "DatasetContents", "SourceContents"]

# Share of the image up to which the paper's authors found masks the most reliable.
RELIABLE = 0.2
_TOP_WORDS = 20
_MOST_SOURCES = 12


@dataclass(frozen=True)
class SourceContents:
    """The rows and question-answer pairs of a source, how many of them have evidence, and their key expressions."""

    name: str
    rows: int
    rows_with_evidence: int
    turns: int
    turns_with_evidence: int
    expressions: int


@dataclass(frozen=True)
class DatasetContents:
    """The contents of a dataset, from the counts of its rows added up (:func:`fivl_hf.augment.counts.row_counts`)."""

    counts: Mapping[str, Mapping[str, int]]

    @property
    def per_turn(self) -> Counter[int]:
        """Turns by number of key expressions."""
        return self._by_number(PER_TURN)

    @property
    def per_row(self) -> Counter[int]:
        """Rows by number of key expressions."""
        return self._by_number(PER_ROW)

    @property
    def boxes(self) -> Counter[int]:
        """Key expressions by number of boxes."""
        return self._by_number(BOXES)

    @property
    def coverage(self) -> list[int]:
        """Masks by share of the image covered, in ``COVERAGE_BINS`` bins."""
        bins = self._counts(COVERAGE)
        return [bins[str(number)] for number in range(COVERAGE_BINS)]

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """Key expressions by kind, the most frequent first; one may be of several kinds."""
        return self._counts(KINDS).most_common()

    @property
    def top_words(self) -> list[tuple[str, int]]:
        """The most frequent head nouns."""
        return self._counts(WORDS).most_common(_TOP_WORDS)

    @property
    def total(self) -> SourceContents:
        """All sources together."""
        return SourceContents("all", *(self._counts(heading).total() for heading in _BY_SOURCE))

    @property
    def sources(self) -> list[SourceContents]:
        """Each source, the one with the most rows first; of many, the smaller ones together."""
        columns = [self._counts(heading) for heading in _BY_SOURCE]
        names = [name for name, _ in columns[0].most_common()]
        shown = names if len(names) <= _MOST_SOURCES else names[: _MOST_SOURCES - 1]
        listed = [SourceContents(name or "unnamed", *(column[name] for column in columns)) for name in shown]
        rest = names[len(shown) :]
        if rest:
            sums = (sum(column[name] for name in rest) for column in columns)
            listed.append(SourceContents(f"{len(rest):,} others", *sums))
        return listed

    def to_dict(self) -> dict[str, Any]:
        """Return the contents as they stand in ``report.json``."""
        return {
            "expressions_per_turn": _sorted(self.per_turn),
            "expressions_per_row": _sorted(self.per_row),
            "boxes_per_expression": _sorted(self.boxes),
            "mask_coverage": {"bins": COVERAGE_BINS, "counts": self.coverage},
            "kinds": dict(self.kinds),
            "top_words": dict(self.top_words),
            "sources": {each.name: vars(each) | {"name": each.name} for each in (self.total, *self.sources)},
        }

    def markdown(self) -> str:
        """Return the contents as a section of the dataset's card; empty if there are no key expressions."""
        total = self.total
        if not total.expressions:
            return ""
        lines = [
            "## What it holds",
            "",
            "| source | rows | with evidence | turns | with evidence | key expressions |",
            "|---|---|---|---|---|---|",
            *(_line(each) for each in (self.sources if len(self.sources) > 1 else [])),
            _line(total),
            "",
            f"Key expressions: {_shares(self.kinds, total.expressions)}. {self.mask_sentence()} Boxes: "
            f"{self._mean(self.boxes):.2g} per expression. Most frequent: "
            + ", ".join(f"{word} ({count:,})" for word, count in self.top_words[:10])
            + ".",
        ]
        return "\n".join(lines)

    def mask_sentence(self) -> str:
        """Say how many masks are small enough to be reliable, and how many too large to teach anything."""
        masks, bins = sum(self.coverage), self.coverage
        reliable = sum(bins[: round(RELIABLE * COVERAGE_BINS)])
        large = sum(bins[round(LARGEST_MASK * COVERAGE_BINS) :])
        return (
            f"Masks: {_share(reliable, masks)} cover less than {RELIABLE:.0%} of the image (the paper found these the "
            f"most reliable), {_share(large, masks)} cover {LARGEST_MASK:.0%} or more."
        )

    def _counts(self, heading: str) -> Counter[str]:
        return Counter(self.counts.get(heading, {}))

    def _by_number(self, heading: str) -> Counter[int]:
        return Counter({int(number): count for number, count in self._counts(heading).items()})

    @staticmethod
    def _mean(counts: Counter[int]) -> float:
        return sum(number * count for number, count in counts.items()) / max(counts.total(), 1)


# In the order of SourceContents' fields.
_BY_SOURCE = (ROWS, ROWS_WITH_EVIDENCE, TURNS, TURNS_WITH_EVIDENCE, EXPRESSIONS)


def _sorted(counts: Counter[int]) -> dict[str, int]:
    return {str(number): count for number, count in sorted(counts.items())}


def _line(each: SourceContents) -> str:
    rows, turns = _share(each.rows_with_evidence, each.rows), _share(each.turns_with_evidence, each.turns)
    return f"| {each.name} | {each.rows:,} | {rows} | {each.turns:,} | {turns} | {each.expressions:,} |"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


def _shares(counts: list[tuple[str, int]], whole: int) -> str:
    return ", ".join(f"{name} {_share(count, whole)}" for name, count in counts)
