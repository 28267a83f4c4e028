"""Counts of a dataset's evidence: expressions per turn, how much masks cover, what can supervise patches."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fivl_hf.supervision import exclusion_reason, target_counts

__all__ = ["COVERAGE", "COVERAGE_BINS", "PER_TURN", "TARGETS", "row_counts"]

# Headings: turns by number of key expressions; masks by share of the image covered, in equal bins from 0 to 1;
# expressions of conversations that can supervise patches, and those that cannot, by reason.
PER_TURN, COVERAGE, TARGETS = "expressions per turn", "coverage", "targets"
COVERAGE_BINS = 20


def row_counts(row: Mapping[str, Any], coverage: Sequence[float]) -> dict[str, Counter[str]]:
    """Count the evidence of one row.

    Args:
        coverage: of each mask, the share of its image that it covers.
    """
    turns = len([message for message in row.get("messages", ()) if message["role"] == "assistant"]) or 1
    per_turn = Counter(expression["turn"] for expression in row["key_expressions"])
    counts = {
        PER_TURN: Counter(str(per_turn[turn]) for turn in range(turns)),
        COVERAGE: Counter(str(min(int(share * COVERAGE_BINS), COVERAGE_BINS - 1)) for share in coverage),
    }
    if "messages" in row:
        expressions = zip(row["key_expressions"], coverage, strict=True)
        counts[TARGETS] = target_counts(exclusion_reason(each["keywords"], share) for each, share in expressions)
    return counts
