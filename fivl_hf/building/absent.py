"""Evidence for "no" questions: what makes the absent object plausible in the image."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fivl_hf.augment.rows import Outcome, RowMaker, Sample
from fivl_hf.jobs.outcomes import Drop

__all__ = ["PLAUSIBLE", "PlausibleEvidence"]

PLAUSIBLE = "plausible"


class PlausibleEvidence:
    """Makes rows with one maker, then the dropped "no" questions again with a second one.

    A row of the second maker has a category that ends in ``/plausible``.
    """

    def __init__(self, maker: RowMaker, plausible: RowMaker) -> None:
        self._maker, self._plausible = maker, plausible

    def make(self, samples: Sequence[Sample]) -> list[Outcome]:
        outcomes = self._maker.make(samples)
        dropped = [
            number
            for number, (sample, outcome) in enumerate(zip(samples, outcomes, strict=True))
            if isinstance(outcome.result, Drop) and getattr(sample.record, "answers", ()) == ("no",)
        ]
        for number, second in zip(dropped, self._plausible.make([samples[i] for i in dropped]), strict=True):
            if isinstance(second.result, dict):
                outcomes[number] = replace(second, result=_marked(second.result))
        return outcomes


def _marked(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "category": f"{row['category']}/{PLAUSIBLE}"}
