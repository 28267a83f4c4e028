"""The page of ``fivl show --browse``: rows of a large dataset, searched, filtered and sorted."""

import math
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from fivl_hf.images import ImageError
from fivl_hf.schema import RowError
from fivl_hf.show.gradio_pages import scripted_page
from fivl_hf.show.pages import render_page, template_text
from fivl_hf.show.row_index import SORTS, RowFilter, RowIndex
from fivl_hf.show.row_pages import row_card
from fivl_hf.show.row_views import view_row
from fivl_hf.storage.parquet_files import ParquetRows
from fivl_hf.supervision import COVERAGE_BANDS

__all__ = ["RowBrowser", "browser_page"]

_ON_A_PAGE = 12
_MOST_TURNS = 10_000
_INDEXED = ("id", "source", "messages", "question", "answers", "key_expressions")


class RowBrowser:
    """Answers the page's script; once the first rows are shown, all are indexed in the background.

    Args:
        rows: of the split that is shown.
        title: the dataset's name.

    Raises:
        ValueError: a column of a FiVL row is missing.
    """

    def __init__(self, rows: ParquetRows, title: str) -> None:
        if missing := [name for name in ("id", "images", "key_expressions", "masks") if name not in rows.columns]:
            raise ValueError(f"{title}: column '{missing[0]}' is missing; found {rows.columns}")
        self.rows, self.title = rows, title
        self._folder = tempfile.TemporaryDirectory(prefix="fivl-index-")
        self.index = RowIndex(Path(self._folder.name) / "rows.sqlite")
        self._reading = threading.Lock()
        self._indexing = threading.Thread(target=self._fill, daemon=True)
        self.problem = ""

    def _fill(self) -> None:
        """Index all rows, then measure all masks."""
        try:
            for batch in self._batches(_INDEXED):
                self.index.add(batch)
            for batch in self._batches(("masks",)):
                self.index.measure(row["masks"] for row in batch)
        except Exception as error:  # a thread's error would be lost: the page says it
            self.problem = f"Indexing failed, so not all rows can be searched: {error}"

    def _batches(self, columns: tuple[str, ...]) -> Any:
        batches = self.rows.batches(columns)
        while True:
            with self._reading:
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def start_indexing(self) -> None:
        """Index the rows in the background, if that has not begun."""
        with self._reading:
            if not self._indexing.ident:
                self._indexing.start()

    def wait(self) -> None:
        """Wait until everything is indexed."""
        self.start_indexing()
        self._indexing.join()

    def act(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Show a page of rows.

        Args:
            request: the fields of :class:`fivl_hf.show.row_index.RowFilter`, and ``page``, counted from 0.

        Returns:
            ``html``, ``page``, ``ready`` (whether all rows and masks are indexed) and the ``sources``.
        """
        try:
            wanted = _filter(request)
            page = min(max(int(request.get("page") or 0), 0), len(self.rows))
            numbers, total = self._find(wanted, page)
        except (ValueError, TypeError) as error:
            return {"html": render_page("browse_rows.html.jinja", **_NONE, problem=f"{error}."), "page": 0}
        pages = max(1, math.ceil(total / _ON_A_PAGE))
        if page >= pages:
            return self.act({**request, "page": pages - 1})
        html = render_page(
            "browse_rows.html.jinja",
            cards=self._cards(numbers),
            found=total,
            total=len(self.rows),
            page=page,
            pages=pages,
            status=self._status(wanted),
            problem=self.problem,
        )
        self.start_indexing()
        return {"html": html, "page": page, "ready": self.ready, "sources": self.index.sources()}

    @property
    def ready(self) -> bool:
        """Return whether all rows and masks are indexed, or indexing has failed."""
        return self.index.measured == len(self.rows) or bool(self.problem)

    def _find(self, wanted: RowFilter, page: int) -> tuple[list[int], int]:
        if wanted == RowFilter():  # needs no index
            start = page * _ON_A_PAGE
            return list(range(start, min(start + _ON_A_PAGE, len(self.rows)))), len(self.rows)
        return self.index.find(wanted, page * _ON_A_PAGE, _ON_A_PAGE)

    def _status(self, wanted: RowFilter) -> str:
        total = len(self.rows)
        if self.index.indexed < total:
            return f"{self.index.indexed:,} of {total:,} rows can be searched so far."
        if wanted.needs_masks and self.index.measured < total:
            return f"The masks of {self.index.measured:,} of {total:,} rows are measured so far."
        return ""

    def _cards(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return the values for the cards of some rows; one that cannot be shown says why."""
        rows: list[dict[str, Any] | str] = []
        with self._reading:
            for number in numbers:
                try:
                    rows.append(self.rows[number])
                except ImageError as error:
                    rows.append(str(error))
        return [_card(number, row) for number, row in zip(numbers, rows, strict=True)]


def _card(number: int, row: dict[str, Any] | str) -> dict[str, Any]:
    if isinstance(row, str):
        return {"number": number, "card": None, "problem": row}
    try:
        return {"number": number, "card": row_card(view_row(row, turns=6, boxes=True)), "problem": ""}
    except (RowError, ImageError) as error:
        return {"number": number, "card": None, "problem": str(error)}


_NONE = {"cards": [], "found": 0, "total": 0, "page": 0, "pages": 1, "status": ""}


def _filter(request: Mapping[str, Any]) -> RowFilter:
    search, word, source, band = (str(request.get(name) or "")[:500] for name in ("search", "word", "source", "band"))
    score = request.get("score")
    return RowFilter(
        search,
        word,
        source,
        band,
        turns=math.ceil(min(float(request.get("turns") or 0), _MOST_TURNS)),
        score=None if score in (None, "") else float(str(score)),
        sort=str(request.get("sort") or "dataset order"),
    )


def browser_page(browser: RowBrowser) -> gr.Blocks:
    """Return the page."""
    top = render_page(
        "browse_top.html.jinja", title=browser.title, total=len(browser.rows), bands=COVERAGE_BANDS, sorts=list(SORTS)
    )
    return scripted_page(browser.title, "browse", top, template_text("browse.js"), browser.act)
