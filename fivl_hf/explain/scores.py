"""What explaining one row gives, as numbers that can be kept: from them everything else is computed.

Shapes: L layers, H heads.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fivl_hf.masks import FloatArray

__all__ = ["ExpressionScores", "RowScores", "ScoreFile"]


@dataclass(frozen=True)
class ExpressionScores:
    """The scores of one key expression.

    Attributes:
        alignment: (L, H) correlation of each head's attention with the expression's mask; None if its tokens were not
            found.
        control: the same with the mask of another image; None without another image.
        by_scale: the alignment with the tokens of one scale alone, in images that are seen at two.
        iou, detected, different_tokens: segmentation from the vision logits: see
            :func:`fivl_hf.explain.segmentation.segmentation_scores`; None where there is nothing to compare.
        skipped: what is missing, and why.
    """

    alignment: FloatArray | None = None
    control: FloatArray | None = None
    by_scale: dict[str, FloatArray] = field(default_factory=dict)
    iou: float | None = None
    detected: bool | None = None
    different_tokens: int | None = None
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowScores:
    """The scores of one row's key expressions.

    Attributes:
        picture: digest of the row's images.
        problem: why the row has none.
    """

    id: str
    picture: str = ""
    expressions: tuple[ExpressionScores, ...] = ()
    problem: str | None = None


class ScoreFile:
    """A JSON Lines file to which the scores of rows are appended as they come.

    Raises:
        ValueError: the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known = {scores.id for scores in self if scores.problem is None}

    def __iter__(self) -> Iterator[RowScores]:
        """The scores of every row, in the order of their writing; of a row that failed and was tried again the last."""
        last = {id: number for number, (id, _) in enumerate(self._lines())}
        for number, (id, raw) in enumerate(self._lines()):
            if last[id] == number:
                yield _unpacked(raw)

    def add(self, scores: RowScores) -> None:
        """Append a row's scores."""
        line = json.dumps(_packed(scores), ensure_ascii=False).encode() + b"\n"
        with self._path.open("ab") as file:
            if file.tell() and not self._ends_with_newline():
                file.write(b"\n")  # after a line that a kill cut off
            file.write(line)
        self.known.add(scores.id)

    def _ends_with_newline(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"

    def _lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    raw = json.loads(line)
                    yield str(raw["id"]), raw
                except (ValueError, TypeError, KeyError) as error:
                    if not line.startswith(b'{"id"'):
                        raise ValueError(f"{self._path}, line {number}, is not a row's scores: {error}") from error
                    # Cut off by a kill: its row is explained again.


def _packed(scores: RowScores) -> dict[str, Any]:
    expressions = [
        {
            **vars(each),
            "alignment": _packed_map(each.alignment),
            "control": _packed_map(each.control),
            "by_scale": {scale: _packed_map(found) for scale, found in each.by_scale.items()},
        }
        for each in scores.expressions
    ]
    return {**vars(scores), "expressions": expressions}


def _unpacked(raw: dict[str, Any]) -> RowScores:
    expressions = tuple(
        ExpressionScores(
            **{
                **each,
                "alignment": _unpacked_map(each["alignment"]),
                "control": _unpacked_map(each["control"]),
                "by_scale": {scale: _unpacked_map(found) for scale, found in each["by_scale"].items()},
                "skipped": tuple(each["skipped"]),
            }
        )
        for each in raw["expressions"]
    )
    return RowScores(**{**raw, "expressions": expressions})


def _packed_map(scores: FloatArray | None) -> list[Any] | None:
    """Shape and float32 values; as decimals they would take three times the space."""
    if scores is None:
        return None
    return [*scores.shape, base64.b64encode(scores.astype("<f4").tobytes()).decode()]


def _unpacked_map(raw: Iterable[Any] | None) -> FloatArray | None:
    if raw is None:
        return None
    layers, heads, values = raw
    return np.frombuffer(base64.b64decode(values), "<f4").reshape(layers, heads).astype(np.float64)
