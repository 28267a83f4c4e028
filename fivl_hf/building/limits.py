"""Limits on masks and scores, questions without evidence, and parts: the last steps before rows are stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fivl_hf.augment.inputs.conversations import Conversation
from fivl_hf.augment.rows import Outcome, RejectedExpression, RowMaker, Sample, checked_row, image_data
from fivl_hf.jobs.outcomes import Drop, Failure
from fivl_hf.storage.eval_files import WITHOUT_EVIDENCE

__all__ = ["WITHOUT_EVIDENCE", "WITH_EVIDENCE", "Limits", "SortedRows"]

WITH_EVIDENCE = "with_evidence"


@dataclass(frozen=True)
class Limits:
    """Limits that key expressions have to keep.

    Attributes:
        max_coverage: largest share of the image that a mask may cover.
        min_score: smallest score; expressions without one (annotated, released) are kept.

    Raises:
        ValueError: a limit that is not between 0 and 1.
    """

    max_coverage: float | None = None
    min_score: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_coverage", "min_score"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value}")

    def problem(self, expression: dict[str, Any], coverage: float) -> str | None:
        if self.max_coverage is not None and coverage > self.max_coverage:
            return f"its mask covers more than {self.max_coverage:.0%} of the image"
        score = expression["score"]
        if self.min_score is not None and score is not None and score < self.min_score:
            return f"its score is under {self.min_score}"
        return None


class SortedRows:
    """Applies limits to the rows of another maker, keeps questions without evidence, and names each row's part.

    Args:
        part: of a conversation's row.
        evidence_only: drop conversations of which no key expression is within the limits.
    """

    def __init__(
        self,
        maker: RowMaker,
        limits: Limits,
        part: Callable[[Conversation], str] = lambda _: "",
        *,
        evidence_only: bool = True,
    ) -> None:
        self._maker, self._limits, self._part, self._evidence_only = maker, limits, part, evidence_only

    def make(self, samples: Sequence[Sample]) -> list[Outcome]:
        outcomes = self._maker.make(samples)
        return [self._sorted(sample.record, each) for sample, each in zip(samples, outcomes, strict=True)]

    def _sorted(self, record: Any, outcome: Outcome) -> Outcome:
        if isinstance(outcome.result, dict):
            outcome = self._limited(outcome, outcome.result)
        if not isinstance(record, Conversation):
            return outcome
        if not record.answers:
            return replace(outcome, part=self._part(record))
        if isinstance(outcome.result, dict):
            return replace(outcome, part=WITH_EVIDENCE)
        return self._without_evidence(record, outcome) if isinstance(outcome.result, Drop) else outcome

    def _limited(self, outcome: Outcome, row: dict[str, Any]) -> Outcome:
        problems = [
            self._limits.problem(expression, coverage)
            for expression, coverage in zip(row["key_expressions"], outcome.coverage, strict=True)
        ]
        if not any(problems):
            return outcome
        kept = [i for i, problem in enumerate(problems) if not problem]
        rejected = tuple(
            RejectedExpression(expression["turn"], expression["text"], problem)
            for expression, problem in zip(row["key_expressions"], problems, strict=True)
            if problem
        )
        result: dict[str, Any] | Drop = Drop(outcome.id, "no key expression is within the limits")
        if kept or ("messages" in row and not self._evidence_only):
            result = {**row, **{column: [row[column][i] for i in kept] for column in ("key_expressions", "masks")}}
        coverage = tuple(outcome.coverage[i] for i in kept)
        return replace(outcome, result=result, rejected=outcome.rejected + rejected, coverage=coverage)

    def _without_evidence(self, record: Conversation, outcome: Outcome) -> Outcome:
        """Keep a benchmark's question without evidence: it counts for accuracy although nothing can be blacked out."""
        data = image_data(record)
        row = data if isinstance(data, Failure) else checked_row(record, data, (), ())
        return replace(outcome, result=row, part=WITHOUT_EVIDENCE)
