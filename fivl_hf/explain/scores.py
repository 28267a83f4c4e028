"""The scores of one row, as numbers that can be kept: from them everything else is computed.

Shapes: L layers, H heads, K thresholds.
"""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from fivl_hf.explain.segmentation import SegmentScore
from fivl_hf.files.appended import AppendedLines
from fivl_hf.masks import FloatArray

__all__ = ["ExpressionScores", "RowScores", "ScoreFile"]

# Fields of an expression that hold maps by name.
_MAPS = ("by_scale", "measures", "controls", "auroc_without_sinks", "depth")


@dataclass(frozen=True)
class ExpressionScores:
    """The scores of one key expression.

    Attributes:
        measures: (L, H) of each measure of :mod:`fivl_hf.explain.measures`, (L, H, K) for "iou"; empty if its tokens
            were not found.
        controls: the same with the mask of another image; empty without another image.
        by_scale: Spearman's correlation with the tokens of one scale alone, in images that are seen at two.
        auroc_without_sinks: (L, H) "own" and "control" AUROC where visual sink tokens are left out; empty if there are
            none, so that nothing changes.
        mask_share: mean coverage by its mask of the visual tokens, 0 to 1; None if it is not compared.
        depth: (L, 3) rank and probability of its keyword after every layer
            (:class:`fivl_hf.explain.lens.KeywordDepth`), under these names; empty where it cannot be known.
        segment: segmentation from the vision logits; None where there is nothing to compare.
        skipped: what is missing, and why.
    """

    measures: dict[str, FloatArray] = field(default_factory=dict)
    controls: dict[str, FloatArray] = field(default_factory=dict)
    by_scale: dict[str, FloatArray] = field(default_factory=dict)
    auroc_without_sinks: dict[str, FloatArray] = field(default_factory=dict)
    mask_share: float | None = None
    depth: dict[str, FloatArray] = field(default_factory=dict)
    segment: SegmentScore | None = None
    skipped: tuple[str, ...] = ()

    @property
    def alignment(self) -> FloatArray | None:
        """(L, H) Spearman's correlation of each head's attention with the mask, if there is one."""
        return self.measures.get("spearman")

    @property
    def control(self) -> FloatArray | None:
        """The same with the mask of another image."""
        return self.controls.get("spearman")

    @property
    def without_sinks(self) -> tuple[FloatArray | None, FloatArray | None]:
        """AUROC without sinks, of the expression's own mask and of the control; the plain one of an image without."""
        found = {"own": self.measures.get("auroc"), "control": self.controls.get("auroc"), **self.auroc_without_sinks}
        return found["own"], found["control"]


@dataclass(frozen=True)
class RowScores:
    """The scores of one row's key expressions.

    Attributes:
        image: digest of the row's images.
        problem: why the row has none.
    """

    id: str
    image: str = ""
    expressions: tuple[ExpressionScores, ...] = ()
    problem: str | None = None

    @property
    def is_measured(self) -> bool:
        """True if at least one expression's attention was compared with its mask."""
        return any(expression.measures for expression in self.expressions)


_FIELDS = {field.name for field in fields(ExpressionScores)}


class ScoreFile:
    """A JSON Lines file to which the scores of rows are appended as they come.

    Attributes:
        known: ids of the rows that it has scores of.
        images: digests of the images of measured rows.

    Raises:
        ValueError: the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        # Unpacked only when they are asked for: large models give a map of a thousand heads for each expression.
        self._file: AppendedLines[dict[str, Any]] = AppendedLines(path, "a row's scores", read=_checked, write=dict)
        self.known: set[str] = set()
        self.images: set[str] = set()
        for raw in self._file:
            if raw["problem"] is None:
                self.known.add(raw["id"])
            if any(expression["measures"] for expression in raw["expressions"]):
                self.images.add(raw["image"])

    def __iter__(self) -> Iterator[RowScores]:
        """Yield the scores of every row, in the order of their writing; the last ones of a row tried again."""
        last = {raw["id"]: number for number, raw in enumerate(self._file)}
        for number, raw in enumerate(self._file):
            if last[raw["id"]] == number:
                try:
                    yield _unpacked(raw)
                except (TypeError, KeyError, ValueError, AttributeError) as error:
                    raise ValueError(
                        f"{self._file.path} holds damaged scores of row {raw['id']!r} ({error!r}): use --restart"
                    ) from error

    def add(self, scores: RowScores) -> None:
        """Append a row's scores."""
        self._file.append([_packed(scores)])
        self.known.add(scores.id)
        if scores.is_measured:
            self.images.add(scores.image)


def _checked(raw: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(raw["id"], str) or not isinstance(raw["expressions"], list) or "problem" not in raw:
        raise ValueError("it has other fields")
    if any(set(expression) != _FIELDS for expression in raw["expressions"]):
        raise ValueError("an expression has other fields, as those of an earlier version: use --restart")
    return raw


def _packed(scores: RowScores) -> dict[str, Any]:
    expressions = [
        {
            **vars(each),
            **{name: {key: _packed_map(found) for key, found in getattr(each, name).items()} for name in _MAPS},
            "segment": vars(each.segment) if each.segment else None,
        }
        for each in scores.expressions
    ]
    return {**vars(scores), "expressions": expressions}


def _unpacked(raw: dict[str, Any]) -> RowScores:
    expressions = tuple(
        ExpressionScores(
            **{
                **each,
                **{name: {key: _unpacked_map(found) for key, found in each[name].items()} for name in _MAPS},
                "segment": SegmentScore(**each["segment"]) if each["segment"] else None,
                "skipped": tuple(each["skipped"]),
            }
        )
        for each in raw["expressions"]
    )
    return RowScores(**{**raw, "expressions": expressions})


def _packed_map(scores: FloatArray) -> list[Any]:
    """Return shape and float32 values; as decimals they would take three times the space."""
    return [*scores.shape, base64.b64encode(scores.astype("<f4").tobytes()).decode()]


def _unpacked_map(raw: Iterable[Any]) -> FloatArray:
    *shape, values = raw
    return np.frombuffer(base64.b64decode(values), "<f4").reshape(shape).astype(np.float64)
