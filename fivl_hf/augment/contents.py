"""The contents of a dataset: how many expressions of which kinds, how large their masks are, from which sources."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
_BANDS = (0.0, 0.05, 0.1, RELIABLE, LARGEST_MASK, 0.5, 1.0)
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
    """The contents of a dataset, from the summed counts of its rows (:func:`fivl_hf.augment.counts.row_counts`)."""

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
        return self._source("all", list(self._counts(ROWS)))

    @property
    def sources(self) -> list[SourceContents]:
        """Each source, the one with the most rows first; of many, the smaller ones together."""
        names = [name for name, _ in self._counts(ROWS).most_common()]
        shown = names if len(names) <= _MOST_SOURCES else names[: _MOST_SOURCES - 1]
        rest = names[len(shown) :]
        listed = [self._source(name or "unnamed", [name]) for name in shown]
        return [*listed, self._source(f"{len(rest):,} others", rest)] if rest else listed

    def _source(self, name: str, members: Sequence[str]) -> SourceContents:
        """Return the counts of one source, or of several together."""
        counted = {field: self._counts(heading) for field, heading in _BY_SOURCE.items()}
        return SourceContents(
            name, **{field: sum(map(counts.__getitem__, members)) for field, counts in counted.items()}
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the contents as ``report.json`` holds them."""
        return {
            "expressions_per_turn": _sorted(self.per_turn),
            "expressions_per_row": _sorted(self.per_row),
            "boxes_per_expression": _sorted(self.boxes),
            "mask_coverage": {"bins": COVERAGE_BINS, "counts": self.coverage},
            "kinds": dict(self.kinds),
            "top_words": dict(self.top_words),
            "total": vars(self.total),
            "sources": [vars(each) for each in self.sources],
        }

    def markdown(self) -> str:
        """Return the contents as a section of the dataset's card; empty if there are no key expressions."""
        total = self.total
        if not total.expressions:
            return ""
        lines = [
            "## Contents",
            "",
            "| source | rows | rows with evidence | turns | turns with evidence | key expressions |",
            "|---|---|---|---|---|---|",
            *(_line(each) for each in (self.sources if len(self.sources) > 1 else [])),
            _line(total),
            "",
            f"Key expressions: {self._mean(self.per_turn):.2g} per turn, {self._mean(self.per_row):.2g} per row; "
            f"{_shares(self.kinds, total.expressions)}. Boxes: {self._mean(self.boxes):.2g} per expression. Most "
            "frequent: " + ", ".join(f"{word} ({count:,})" for word, count in self.top_words[:10]) + ".",
            *self._coverage_table(),
        ]
        return "\n".join(lines)

    def mask_sentence(self) -> str:
        """Say how many masks are small enough to be reliable, and how many too large to teach; empty without masks."""
        masks = sum(self.coverage)
        if not masks:
            return ""
        reliable, large = self._covering(0, RELIABLE), self._covering(LARGEST_MASK, 1)
        return (
            f"{_share(reliable, masks)} of the masks cover less than {RELIABLE:.0%} of the image, which the paper "
            f"found the most reliable; {_share(large, masks)} cover {LARGEST_MASK:.0%} or more, which training leaves "
            "out by default (vision_max_coverage)."
        )

    def _coverage_table(self) -> list[str]:
        """Return how much of the image masks cover, with the lines at 20% and 30%."""
        masks = sum(self.coverage)
        if not masks:
            return []
        bands = {f"{low:.0%} to {high:.0%}": _share(self._covering(low, high), masks) for low, high in pairwise(_BANDS)}
        head, values = " | ".join(bands), " | ".join(bands.values())
        lines = ["", f"| share of the image | {head} |", "|---" * (len(bands) + 1) + "|", f"| masks | {values} |", ""]
        return [*lines, self.mask_sentence()]

    def _covering(self, low: float, high: float) -> int:
        """Count the masks that cover from ``low`` up to ``high`` of their image, to the bin."""
        return sum(self.coverage[round(low * COVERAGE_BINS) : round(high * COVERAGE_BINS)])

    def _counts(self, heading: str) -> Counter[str]:
        return Counter(self.counts.get(heading, {}))

    def _by_number(self, heading: str) -> Counter[int]:
        return Counter({int(number): count for number, count in self._counts(heading).items()})

    @staticmethod
    def _mean(counts: Counter[int]) -> float:
        return sum(number * count for number, count in counts.items()) / max(counts.total(), 1)


# The fields of SourceContents, and the headings under which they are counted.
_BY_SOURCE = {
    "rows": ROWS,
    "rows_with_evidence": ROWS_WITH_EVIDENCE,
    "turns": TURNS,
    "turns_with_evidence": TURNS_WITH_EVIDENCE,
    "expressions": EXPRESSIONS,
}


def _sorted(counts: Counter[int]) -> dict[str, int]:
    return {str(number): count for number, count in sorted(counts.items())}


def _line(each: SourceContents) -> str:
    rows, turns = _share(each.rows_with_evidence, each.rows), _share(each.turns_with_evidence, each.turns)
    return f"| {each.name} | {each.rows:,} | {rows} | {each.turns:,} | {turns} | {each.expressions:,} |"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


def _shares(counts: list[tuple[str, int]], whole: int) -> str:
    return ", ".join(f"{name} {_share(count, whole)}" for name, count in counts)
