"""The scores of all heads as a Parquet table: heads can be chosen again from it, without a model.

A row is a key expression: ``id``, ``image``, ``expression`` (its number in the row), ``mask_share`` (mean coverage
of the visual tokens by its mask), ``layers``, ``heads``, and for each measure a list of layers × heads scores
(``auroc``), and of those with another image's mask (``auroc_control``; null where there is none). The lists of ``iou``
are layers × heads × thresholds. ``auroc_without_sinks`` leaves visual sink tokens out.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fivl_hf.explain.measures import MEASURES, chance
from fivl_hf.explain.scores import ExpressionScores, RowScores
from fivl_hf.explain.selection import image_halves, selection_by
from fivl_hf.masks import FloatArray

__all__ = ["choose_again", "write_score_table"]

# Rows in memory at a time: those of a large model hold a megabyte each.
_BATCH = 64
_CONTROL = "_control"
_NAMES = (*MEASURES, "iou")
_WITHOUT_SINKS = "auroc_without_sinks"
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.string()),
        ("expression", pa.int32()),
        ("mask_share", pa.float64()),
        ("layers", pa.int32()),
        ("heads", pa.int32()),
        *((name + suffix, pa.list_(pa.float32())) for name in (*_NAMES, _WITHOUT_SINKS) for suffix in ("", _CONTROL)),
    ]
)


def write_score_table(rows: Iterable[RowScores], path: Path) -> None:
    """Write the scores of rows; expressions that could not be measured are left out."""
    waiting = (
        _line(row, number, scores)
        for row in rows
        for number, scores in enumerate(row.expressions)
        if scores.alignment is not None
    )
    part = path.with_name(f".{path.name}.part")
    with pq.ParquetWriter(part, _SCHEMA, compression="zstd") as writer:
        while lines := list(islice(waiting, _BATCH)):
            writer.write_table(pa.Table.from_pylist(lines, schema=_SCHEMA))
    part.replace(path)


def _line(row: RowScores, number: int, scores: ExpressionScores) -> dict[str, Any]:
    bare, bare_control = scores.without_sinks
    own = {**scores.measures, _WITHOUT_SINKS: bare}
    control = {**scores.controls, _WITHOUT_SINKS: bare_control}
    layers, heads = (0, 0) if scores.alignment is None else scores.alignment.shape
    return {
        **{"id": row.id, "image": row.image, "expression": number, "mask_share": scores.mask_share},
        **{"layers": layers, "heads": heads},
        **{name: _listed(each) for name, each in own.items()},
        **{name + _CONTROL: _listed(control.get(name)) for name in own},
    }


def _listed(scores: FloatArray | None) -> Any:
    return None if scores is None else scores.astype(np.float32).ravel()


def choose_again(
    path: Path, names: Iterable[str] = _NAMES, *, count: int = 5, split_seed: int = 0, **options: Any
) -> dict[str, Any]:
    """Choose heads again from a table of scores, without a model.

    Args:
        names: of the measures, or "auroc_without_sinks".
        count: heads to list.
        split_seed: of the halves of the images.
        options: resamples and seed of :class:`fivl_hf.explain.selection.HeadSelection`.

    Returns:
        As ``measures`` in ``explanation.json``.

    Raises:
        ValueError: not such a table, or a measure that it does not have.
    """
    names = list(names)
    if unknown := [name for name in names if name not in (*_NAMES, _WITHOUT_SINKS)]:
        raise ValueError(f"no measure {unknown[0]!r}; there are {', '.join((*_NAMES, _WITHOUT_SINKS))}")
    choosing = image_halves((line["image"] for line in _lines(path, ())), split_seed)
    selections = {name: selection_by(name, choosing, **options) for name in names}
    covered, compared = 0.0, 0
    for line in _lines(path, selections):
        shape = line["layers"], line["heads"]
        covered, compared = covered + line["mask_share"], compared + 1
        for name, selection in selections.items():
            own, control = (line[name + suffix] for suffix in ("", _CONTROL))
            if own is not None:
                each = (*shape, -1) if name == "iou" else shape
                against = None if control is None else np.reshape(control, each)
                selection.add(line["image"], np.reshape(own, each), against)
    shares = [covered / compared] if compared else []
    return {name: {**each.summary(count), "chance": chance(name, shares)} for name, each in selections.items()}


def _lines(path: Path, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    columns = [
        "image",
        "mask_share",
        "layers",
        "heads",
        *(name + suffix for name in names for suffix in ("", _CONTROL)),
    ]
    try:
        for batch in pq.ParquetFile(path).iter_batches(_BATCH, columns=columns):
            if missing := [name for name in columns if name not in batch.schema.names]:
                raise ValueError(f"{path} has no column {missing[-1]!r}: it is not a table of heads' scores with it")
            yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file: {error}") from error
