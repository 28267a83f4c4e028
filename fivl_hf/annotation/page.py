"""The annotators' page: one expression at a time, by keyboard, every answer written at once."""

import base64
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from fivl_hf.annotation.fixes import checked_fix, painted_mask, resized_mask
from fivl_hf.annotation.items import Item
from fivl_hf.annotation.records import ANSWERS, QUESTIONS, Annotation
from fivl_hf.annotation.study import Progress, Study
from fivl_hf.images import open_rgb, thumbnail
from fivl_hf.masks import BoolArray, decode_mask, encode_mask
from fivl_hf.schema import FiVLRow, KeyExpression, Turn, validate_row
from fivl_hf.show.drawing import enlarge, evidence_layer
from fivl_hf.show.pages import picture_url, render_page, template_text

__all__ = ["annotation_page"]

# A number for every rendering of the panel, so that its script notices each.
_SHOWINGS = itertools.count()
# Rows that are kept.
_CHECKED = 16
# Longest side of the image as it is sent; small images are enlarged so that outlines stay thin.
_SHOWN, _SMALLEST, _PAINTED, _OTHER = 1400, 700, 900, 500
# Lets the image through; what is more opaque than half counts as painted.
_BRUSH, _INK = (255, 140, 0), 178


def annotation_page(study: Study, rows: Any, title: str) -> gr.Blocks:
    """Return the page of a study.

    Args:
        rows: the study's dataset, images left encoded.
        title: the dataset's name.
    """
    views = _Views(study, rows)

    # Gradio marks the functions that scripts may call, which a bound method does not allow.
    def act(request: Any) -> dict[str, Any]:
        return views.act(request)

    with gr.Blocks(title=f"Annotate {title}", analytics_enabled=False, fill_width=True) as page:
        link, item = (gr.Textbox(visible="hidden") for _ in range(2))
        painting = gr.State()
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                picture = _html("picture")
                with gr.Row():
                    paint = gr.Button("Paint the mask", size="sm", elem_id="fivl-paint")
                    keep = gr.Button("Save mask", size="sm", variant="primary", visible=False)
                    again = gr.Button("Restore the dataset's mask", size="sm", visible=False)
                editor = _editor()
            with gr.Column(scale=2, min_width=320):
                panel = _html("panel", act)
        editing = [editor, keep, again]
        options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        read_link_and_item = (
            "() => [new URLSearchParams(window.location.search).get('key') || '', window.fivlItem || '']"
        )
        paint.click(views.paint, [link, item], [painting, *editing], js=read_link_and_item, **options)
        keep.click(views.keep_mask, [painting, editor], [picture, panel, *editing], **options)
        again.click(views.restore_mask, [painting], [picture, panel, *editing], **options)
        panel.close(_closed_editor, None, editing, **options)
    return page


def _html(part: str, *functions: Callable[..., Any]) -> gr.HTML:
    """Return a component that shows what the server renders, with the script of its part."""
    return gr.HTML(
        '<p class="problem lost" role="alert" hidden></p>',
        js_on_load=template_text("drag.js") + template_text(f"annotate_{part}.js"),
        elem_classes="fivl-page fivl-annotate",
        elem_id=f"fivl-{part}",
        padding=False,
        server_functions=list(functions),
    )


def _editor() -> gr.ImageEditor:
    return gr.ImageEditor(
        label="Paint with the brush where the mask is missing, erase where it is too much",
        type="pil",
        format="png",
        height=620,
        layers=False,
        sources=(),
        transforms=(),
        visible=False,
        elem_id="fivl-editor",
        brush=gr.Brush(default_size=16, colors=[f"rgba{(*_BRUSH, round(_INK / 255, 2))}"], color_mode="fixed"),
        eraser=gr.Eraser(default_size=16),
    )


@dataclass(frozen=True)
class _Views:
    """The steps of the page, and what it shows after each."""

    study: Study
    rows: Any
    checked: dict[int, FiVLRow] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def act(self, request: Any) -> dict[str, Any]:
        """Do what the page's script asks for, and return what is to be shown then.

        Args:
            request: ``link``; ``step``: "open", "record", "draw", "next" or "undo"; ``item``, ``field`` and ``value``.

        Returns:
            ``picture`` (None: as it is), ``panel``, and whether something could not be saved (``failed``).

        Raises:
            KeyError, ValueError: a request that the script does not make.
        """
        name = self.study.annotator_of(str(request["link"]))
        if name is None:
            problem = "Ask whoever started the study for your link: it ends in ?key= and your own key."
            return _shown("", _render_panel("", None, heading="Unknown link", explanation=problem))
        if request["step"] == "record":
            return self._record(name, request["item"], request["field"], request["value"])
        if request["step"] == "draw":
            # The first box replaces those of the dataset.
            boxes = self.study.annotation(name, request["item"]).boxes or []
            return self._record(name, request["item"], "boxes", [*boxes, request["value"]])
        problem = ""
        item = None
        if request["step"] == "undo":
            try:
                item = self.study.undo(name)
            except OSError as error:
                problem = _unsaved(error)
        return self._show(name, item or self.study.next_item(name), problem)

    def paint(self, link: str, key: str) -> list[Any]:
        """Open the mask in the editor."""
        name = self.study.annotator_of(link)
        if name is None or key not in self.study.items:
            return [None, *_closed_editor()]
        row, place = self._row(key), self.study.items[key].place
        image = thumbnail(open_rgb(row.images[row.key_expressions[place].image]), _PAINTED)
        if max(image.size) < _SMALLEST:
            image = enlarge(image, _SMALLEST)
        layer = Image.new("RGBA", image.size, (*_BRUSH, 0))
        shown = resized_mask(self._mask(name, key, row), image.size)
        layer.putalpha(Image.fromarray(np.where(shown, _INK, 0).astype(np.uint8)))
        ground = image.convert("RGBA")
        value = {"background": ground, "layers": [layer], "composite": Image.alpha_composite(ground, layer)}
        editor = gr.update(value=value, canvas_size=image.size, visible=True)
        return [(name, key), editor, gr.update(visible=True), gr.update(visible=True)]

    def keep_mask(self, painting: tuple[str, str], painted: dict[str, Any]) -> list[Any]:
        """Take the painted mask."""
        name, key = painting
        row = self._row(key)
        png = encode_mask(painted_mask(painted["layers"], self._mask(name, key, row)))
        shown = self._record(name, key, "mask_png", base64.b64encode(png).decode())
        return [shown["picture"] or gr.skip(), shown["panel"], *_closed_editor()]

    def _mask(self, name: str, key: str, row: FiVLRow) -> BoolArray:
        return _mask_of(row, self.study.items[key], self.study.annotation(name, key))

    def restore_mask(self, painting: tuple[str, str]) -> list[Any]:
        """Go back to the dataset's mask."""
        shown = self._record(*painting, "mask_png", "")
        return [shown["picture"] or gr.skip(), shown["panel"], *_closed_editor()]

    def _record(self, name: str, key: str, field: str, value: Any) -> dict[str, Any]:
        """Write an answer, a comment or a fix down."""
        item, row, problem = self.study.items[key], self._row(key), ""
        try:
            self.study.record(name, key, field, checked_fix(row, item.place, field, value))
        except OSError as error:
            problem = _unsaved(error)
        except ValueError as error:
            problem = f"Not saved: {error}."
        annotation = self.study.annotation(name, key)
        redrawn = _picture(row, item, annotation) if field in ("boxes", "mask_png") and not problem else None
        return _shown(redrawn, self._panel(name, item, row, annotation, problem), problem)

    def _show(self, name: str, item: Item | None, problem: str) -> dict[str, Any]:
        """Show an item; without one, say that the annotator has finished."""
        if item is None:
            progress = self.study.progress(name)
            done = f"You have finished {progress.done} items. Everything is saved; you can close this page."
            panel = _render_panel(name, None, progress=progress, heading="All done", explanation=done, problem=problem)
            return _shown("", panel, problem)
        row, annotation = self._row(item.key), self.study.annotation(name, item.key)
        panel = self._panel(name, item, row, annotation, problem)
        return _shown(_picture(row, item, annotation), panel, problem)

    def _row(self, key: str) -> FiVLRow:
        number = self.study.rows[key]
        row = self.checked.get(number)
        if row is None:
            # Checking a row decodes its images, which takes a second for a large one.
            row = validate_row(self.rows[number])
            with self.lock:
                self.checked[number] = row
                if len(self.checked) > _CHECKED:
                    del self.checked[next(iter(self.checked))]
        return row

    def _panel(self, name: str, item: Item, row: FiVLRow, annotation: Annotation, problem: str) -> str:
        return _render_panel(
            name,
            item,
            progress=self.study.progress(name),
            problem=problem,
            annotation=annotation,
            turns=_turns(row.turns, row.key_expressions[item.place]),
            through_question=row.key_expressions[item.place].start < 0,
            notice=_notice(len(self.study.changed)),
        )


def _mask_of(row: FiVLRow, item: Item, annotation: Annotation) -> BoolArray:
    """Return the mask that an annotator sees, their own if they have painted one: (H, W)."""
    return decode_mask(annotation.mask_bytes or row.masks[item.place])


def _picture(row: FiVLRow, item: Item, annotation: Annotation) -> str:
    """Render the image with mask and boxes, those of the annotator if they are fixed."""
    expression = row.key_expressions[item.place]
    width, height = row.sizes[expression.image]
    image = thumbnail(open_rgb(row.images[expression.image]), _SHOWN)
    is_small = max(image.size) < _SMALLEST
    mask = _mask_of(row, item, annotation)
    fixed = ["your mask"] if annotation.mask_png else []
    fixed += ["your boxes"] if annotation.boxes is not None else []
    return render_page(
        "annotate_picture.html.jinja",
        id=row.id,
        image=picture_url(image, "PNG" if is_small else "JPEG"),
        mask=picture_url(evidence_layer(enlarge(image, _SMALLEST).size if is_small else image.size, [mask])),
        width=width,
        height=height,
        boxes=annotation.boxes if annotation.boxes is not None else expression.boxes,
        coverage=float(np.mean(mask)),
        number=expression.image + 1,
        others=[
            picture_url(thumbnail(open_rgb(other), _OTHER), "JPEG")
            for place, other in enumerate(row.images)
            if place != expression.image
        ],
        changed=f"Shown: {' and '.join(fixed)}." if fixed else "",
    )


def _shown(picture: str | None, panel: str, problem: str = "") -> dict[str, Any]:
    return {"picture": picture, "panel": panel, "failed": bool(problem)}


def _render_panel(name: str, item: Item | None, **values: Any) -> str:
    """Render the panel of an item, or of none; what is not given is empty."""
    annotation: Annotation = values.pop("annotation", Annotation(""))
    progress = values.pop("progress", Progress(0, 0))
    defaults = {"problem": "", "notice": "", "heading": "", "explanation": "", "turns": (), "through_question": False}
    return render_page(
        "annotate_panel.html.jinja",
        **{**defaults, **values},
        annotator=name,
        shown=next(_SHOWINGS),
        key=item.key if item else "",
        text=item.text if item else "",
        done=progress.done,
        total=progress.total,
        annotation=annotation,
        answers=ANSWERS,
        questions=[
            {"field": field, "text": text, "answer": annotation.answers.get(field)} for field, text in QUESTIONS.items()
        ],
    )


def _turns(turns: tuple[Turn, ...], expression: KeyExpression) -> list[dict[str, Any]]:
    """Return the conversation, the expression's turn with the expression marked."""
    shown = []
    for number, turn in enumerate(turns):
        answer, current = turn.answer, number == expression.turn
        parts = [{"text": answer, "marked": False}]
        if current and expression.start >= 0:
            cut = (answer[: expression.start], expression.text, answer[expression.end :])
            parts = [{"text": text, "marked": marked} for text, marked in zip(cut, (False, True, False), strict=True)]
        shown.append({"question": turn.question, "current": current, "parts": parts})
    return shown


def _notice(changed: int) -> str:
    if not changed:
        return ""
    items = "1 item was" if changed == 1 else f"{changed} items were"
    return f"{items} removed or changed since the study began, and skipped; your answers to them are kept."


def _unsaved(error: OSError) -> str:
    return f"Not saved: {error}. Earlier answers are saved; when this is fixed, answer again."


def _closed_editor() -> list[Any]:
    """Return updates that put the mask's editor away."""
    return [gr.update(value=None, visible=False), gr.update(visible=False), gr.update(visible=False)]
