"""``fivl explain``: head map, best heads, segmentation and sample pictures of one model, written to a folder."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from fivl_hf.explain.alignment import summary, top_heads
from fivl_hf.explain.analysis import Explanation, explain
from fivl_hf.explain.pictures import evidence_strip
from fivl_hf.explain.plots import head_map
from fivl_hf.explain.samples import prepare

__all__ = ["explanation_summary", "write_explanation"]


def explanation_summary(found: Explanation) -> dict[str, Any]:
    """An explanation as plain numbers, its best head's control beside it."""
    result = summary(found.alignment)
    best = result["top_heads"][0] if result["top_heads"] else None
    control = found.control.mean()
    return {
        **result,
        "best_head": best,
        "control_alignment": [[float(value) for value in row] for row in control],
        "best_head_control": float(control[best["layer"], best["head"]]) if best and control.size else None,
        "segmentation": found.segmentation,
        "skipped": found.skipped,
    }


def write_explanation(
    model: Any,
    processor: Any,
    rows: Sequence[Mapping[str, Any]] | Iterable[Mapping[str, Any]],
    output: Path,
    *,
    pictures: int = 8,
    head: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Explain the rows and write ``explanation.json``, ``head_map.png`` and ``pictures/<row>.png``.

    Args:
        pictures: how many rows to draw, each as image, mask, one head's attention, predicted segment.
        head: (layer, head) to draw; the best-aligned one if not given.

    Raises:
        ValueError: rows without any key expression whose tokens can be found.
    """
    rows = list(rows)
    found = explain(model, processor, rows)
    result = explanation_summary(found)
    if not result["top_heads"]:
        raise ValueError("no row has a key expression whose tokens and mask can be compared")
    output.mkdir(parents=True, exist_ok=True)
    (output / "explanation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    head_map(found.alignment.mean()).savefig(output / "head_map.png", dpi=150)
    best = top_heads(found.alignment.mean(), 1)[0]
    layer, index = head or (best["layer"], best["head"])
    (output / "pictures").mkdir(exist_ok=True)
    drawable = (row for row in rows if row["key_expressions"])
    for number, row in enumerate(islice(drawable, pictures)):
        strip = evidence_strip(model, prepare(model, processor, row), 0, layer, index)
        strip.save(output / "pictures" / f"{number:03d}.png")
    return result
