"""``fivl explain``: head map, best heads, segmentation and sample pictures of one model, written to a folder."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fivl_hf.explain.alignment import as_lists, summary
from fivl_hf.explain.analysis import Explanation, explain
from fivl_hf.explain.pictures import evidence_strip, last_place
from fivl_hf.explain.plots import head_map
from fivl_hf.explain.samples import prepare
from fivl_hf.schema import validate_row

__all__ = ["explanation_summary", "write_explanation"]


def explanation_summary(found: Explanation) -> dict[str, Any]:
    """An explanation as plain numbers, its best head's control beside it; ``n`` counts key expressions."""
    result = summary(found.alignment)
    best = result["top_heads"][0] if result["top_heads"] else None
    control = as_lists(found.control.mean())
    return {
        **result,
        "best_head": best,
        "control_alignment": control,
        "best_head_control": control[best["layer"]][best["head"]] if best and control else None,
        "by_scale": {scale: summary(found.by_scale[scale]) for scale in sorted(found.by_scale)},
        "segmentation": found.segmentation,
        "skipped": found.skipped,
    }


def write_explanation(
    model: Any,
    processor: Any,
    rows: Iterable[Mapping[str, Any]],
    output: Path,
    *,
    pictures: int = 8,
    head: tuple[int, int] | None = None,
    word: str | None = None,
) -> dict[str, Any]:
    """Explain the rows and write ``explanation.json``, ``head_map.png`` and ``pictures/000.png``, ...

    Args:
        pictures: how many rows to draw, each as image, mask, one head's attention, predicted segment.
        head: (layer, head) to draw; the best-aligned one if not given.
        word: draw the attention while this word is written, in the rows that hold it, instead of the expression.

    Raises:
        ValueError: a head the model does not have, a word that no answer says, or rows without any key expression
            whose tokens can be found.
    """
    if head is not None:
        _check_head(model, head)
    drawn: list[Mapping[str, Any]] = []
    found = explain(model, processor, _keeping(rows, drawn, pictures, word))
    result = explanation_summary(found)
    if not result["top_heads"]:
        raise ValueError("no row has a key expression whose tokens and mask can be compared")
    if word is not None and pictures and not drawn:
        raise ValueError(f"no answer says {word!r}")
    layer, index = head or (result["best_head"]["layer"], result["best_head"]["head"])
    (output / "pictures").mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2, allow_nan=False)
    (output / "explanation.json").write_text(text + "\n", encoding="utf-8")
    head_map(found.alignment.mean(), framed=(layer, index)).savefig(output / "head_map.png", dpi=150)
    for earlier in (output / "pictures").glob("[0-9][0-9][0-9].png"):
        earlier.unlink()
    for number, row in enumerate(drawn):
        sample = prepare(model, processor, row)
        if word is not None or len(sample.evidence[0].tokens):
            strip = evidence_strip(model, sample, 0, layer, index, word=word)
            strip.save(output / "pictures" / f"{number:03d}.png")
    return result


def _keeping(
    rows: Iterable[Mapping[str, Any]], kept: list[Mapping[str, Any]], count: int, word: str | None
) -> Iterator[Mapping[str, Any]]:
    """Pass rows on, keeping the first that can be drawn."""
    for row in rows:
        if len(kept) < count and row.get("key_expressions") and (word is None or _says(row, word)):
            kept.append(row)
        yield row


def _says(row: Mapping[str, Any], word: str) -> bool:
    return last_place([turn.answer for turn in validate_row(row).turns], word) is not None


def _check_head(model: Any, head: tuple[int, int]) -> None:
    text = model.config.get_text_config()
    layers, heads = text.num_hidden_layers, text.num_attention_heads
    if not (0 <= head[0] < layers and 0 <= head[1] < heads):
        raise ValueError(
            f"layer {head[0]}, head {head[1]}: the model has {layers} layers of {heads} heads, counted from 0"
        )
