"""Pages and pictures of rows."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from fivl_hf.show.pages import picture_url, render_page
from fivl_hf.show.row_views import RowView, draw_row, view_row
from fivl_hf.supervision import target_counts, usable_sentence

__all__ = ["choose_rows", "row_card", "write_rows"]

_MOST_DRAWN = 50
_PICTURES = (".png", ".jpg", ".jpeg")


def choose_rows(rows: Any, *, row: int | None, id: str | None, sample: int, seed: int) -> list[dict[str, Any]]:
    """Return the row of a number or id, or some drawn at random, in their order.

    Args:
        rows: a dataset, images left encoded.

    Raises:
        ValueError: there is no such row.
    """
    if id is not None:
        places = [number for number, each in enumerate(rows["id"]) if each == id]
        if not places:
            raise ValueError(f"no row has the id {id!r}; ids look like {rows[0]['id']!r}")
        row = places[0]
    if row is None:
        chosen = sorted(random.Random(seed).sample(range(len(rows)), min(sample, len(rows))))
        return [rows[number] for number in chosen]
    if row >= len(rows):
        raise ValueError(f"there is no row {row}: the split has {len(rows):,} rows, counted from 0")
    return [rows[row]]


def write_rows(path: Path, rows: Sequence[dict[str, Any]], title: str) -> str:
    """Draw rows into an HTML page, or into one picture.

    Returns:
        How many of their key expressions can supervise patches, in a sentence; empty for a benchmark's rows.

    Raises:
        ValueError: another kind of file.
        RowError: a row that does not fit the schema.
    """
    if path.suffix.lower() not in (".html", ".htm", *_PICTURES):
        raise ValueError(f"--output must end in .html, .png or .jpg, got {path}")
    if path.suffix.lower() in _PICTURES and len(rows) > _MOST_DRAWN:
        raise ValueError(f"a picture holds at most {_MOST_DRAWN} rows, got {len(rows):,}: write a page (.html)")
    path.parent.mkdir(parents=True, exist_ok=True)
    views = [view_row(row, turns=6, boxes=True) for row in rows]
    counts: Counter[str] = Counter()
    for row, view in zip(rows, views, strict=True):
        if "messages" in row:
            counts.update(target_counts(part.unusable for part in view.legend))
    usable = usable_sentence(counts)
    if path.suffix.lower() in _PICTURES:
        _stacked([draw_row(view) for view in views]).save(path)
    else:
        page = render_page("rows.html.jinja", title=title, usable=usable, cards=[row_card(view) for view in views])
        path.write_text(page, encoding="utf-8")
    return usable


def row_card(view: RowView) -> dict[str, Any]:
    """Return the values for a row's card; the evidence is a layer of its own, which readers can switch off."""
    layer = picture_url(view.layer) if view.layer else None
    return {"view": view, "anchor": f"row-{quote(view.id)}", "url": picture_url(view.image, "JPEG"), "layer": layer}


def _stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (max(each.width for each in pictures), sum(each.height for each in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet
