"""Counts of a row's evidence, which are added up over a dataset (:mod:`fivl_hf.augment.contents`)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fivl_hf.keywords import expression_kinds, head_noun
from fivl_hf.supervision import exclusion_reason, target_counts

__all__ = [
    "BOXES",
    "COVERAGE",
    "COVERAGE_BINS",
    "EXPRESSIONS",
    "FROM_QUESTION",
    "KINDS",
    "PER_ROW",
    "PER_TURN",
    "ROWS",
    "ROWS_WITH_EVIDENCE",
    "TARGETS",
    "TURNS",
    "TURNS_WITH_EVIDENCE",
    "WORDS",
    "row_counts",
]

PER_TURN = "expressions per turn"  # turns by number of key expressions
PER_ROW = "expressions per row"  # rows by number of key expressions
BOXES = "boxes per expression"  # expressions by number of boxes
COVERAGE = "coverage"  # masks by share of the image covered, in equal bins from 0 to 1
COVERAGE_BINS = 20
TARGETS = "targets"  # expressions of conversations that can supervise patches, and those that cannot, by reason
KINDS = "kinds"  # expressions by kind, of which one may have several
FROM_QUESTION = "from the question"
WORDS = "words"  # expressions by head noun
# Each by source.
ROWS = "rows"
ROWS_WITH_EVIDENCE = "rows with evidence"
TURNS = "turns"
TURNS_WITH_EVIDENCE = "turns with evidence"
EXPRESSIONS = "expressions"


def row_counts(row: Mapping[str, Any], coverage: Sequence[float]) -> dict[str, Counter[str]]:
    """Count the evidence of one row.

    Args:
        coverage: of each mask, the share of its image that it covers.
    """
    expressions, source = row["key_expressions"], str(row.get("source") or "")
    turns = len([message for message in row.get("messages", ()) if message["role"] == "assistant"]) or 1
    per_turn = Counter(expression["turn"] for expression in expressions)
    counts = {
        PER_TURN: Counter(str(per_turn[turn]) for turn in range(turns)),
        PER_ROW: Counter({str(len(expressions)): 1}),
        BOXES: Counter(str(len(expression["boxes"])) for expression in expressions),
        COVERAGE: Counter(str(min(int(share * COVERAGE_BINS), COVERAGE_BINS - 1)) for share in coverage),
        KINDS: Counter(kind for expression in expressions for kind in _kinds(expression)),
        WORDS: Counter(word.casefold() for word in map(_head, expressions) if word),
        ROWS: Counter({source: 1}),
        ROWS_WITH_EVIDENCE: Counter({source: int(bool(expressions))}),
        TURNS: Counter({source: turns}),
        TURNS_WITH_EVIDENCE: Counter({source: len(per_turn)}),
        EXPRESSIONS: Counter({source: len(expressions)}),
    }
    if "messages" in row:
        pairs = zip(expressions, coverage, strict=True)
        counts[TARGETS] = target_counts(exclusion_reason(each["keywords"], share) for each, share in pairs)
    return counts


def _kinds(expression: Mapping[str, Any]) -> list[str]:
    kinds = expression_kinds(expression["text"])
    return [*kinds, FROM_QUESTION] if expression["start"] < 0 else list(kinds)


def _head(expression: Mapping[str, Any]) -> str | None:
    return head_noun(expression["text"], expression["keywords"])
