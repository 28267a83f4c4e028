"""The annotators' page: one expression at a time, by keyboard, every answer written at once."""

import base64
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from fivl_hf.annotation.fixes import checked_fix, painted_mask
from fivl_hf.annotation.items import Item
from fivl_hf.annotation.records import ANSWERS, QUESTIONS, Annotation
from fivl_hf.annotation.study import Study
from fivl_hf.images import open_rgb, thumbnail
from fivl_hf.masks import decode_mask, encode_mask
from fivl_hf.schema import FiVLRow, KeyExpression, Turn, validate_row
from fivl_hf.show.drawing import PALETTE, enlarge, evidence_layer
from fivl_hf.show.pages import picture_url, render_page, template_text

__all__ = ["annotation_page"]

# A number for every rendering of the panel, so that its script notices each.
_SHOWINGS = itertools.count()
_NO_ITEM = Item("", 0, 0, "", "", 0, "")
# Longest side of the image as it is sent; small images are enlarged so that outlines stay thin.
_SHOWN, _SMALLEST, _PAINTED = 1400, 700, 900
# Lets the image through; what is more opaque than half counts as painted.
_BRUSH, _INK = (255, 140, 0), 178


def annotation_page(study: Study, rows: Any, title: str) -> gr.Blocks:
    """Return the page of a study.

    Args:
        rows: the study's dataset, images left encoded.
        title: the dataset's name.
    """
    views = _Views(study, rows)

    def act(request: Any) -> dict[str, Any]:
        return views.act(request)

    with gr.Blocks(title=f"Annotate {title}", analytics_enabled=False, fill_width=True) as page:
        link, item = (gr.Textbox(visible="hidden") for _ in range(2))
        painting = gr.State()
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                picture = _html("picture")
                with gr.Row():
                    paint = gr.Button("Paint the mask", size="sm")
                    keep = gr.Button("Save the painted mask", size="sm", variant="primary", visible=False)
                    again = gr.Button("Take the dataset's mask again", size="sm", visible=False)
                editor = _editor()
            with gr.Column(scale=2, min_width=320):
                panel = _html("panel", act)
        editing = [editor, keep, again]
        options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        whose = "() => [new URLSearchParams(window.location.search).get('key') || '', window.fivlItem || '']"
        paint.click(views.paint, [link, item], [painting, *editing], js=whose, **options)
        keep.click(views.keep_mask, [painting, editor], [picture, panel, *editing], **options)
        again.click(views.take_mask_again, [painting], [picture, panel, *editing], **options)
        panel.close(_closed, None, editing, **options)
    return page


def _html(part: str, *functions: Callable[..., Any]) -> gr.HTML:
    """Return a component that shows what the server renders, with the script of its part."""
    return gr.HTML(
        "",
        js_on_load=template_text(f"annotate_{part}.js"),
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
        brush=gr.Brush(default_size=16, colors=[f"rgba{(*_BRUSH, round(_INK / 255, 2))}"], color_mode="fixed"),
        eraser=gr.Eraser(default_size=16),
    )


@dataclass(frozen=True)
class _Views:
    """What the page does and shows."""

    study: Study
    rows: Any

    def act(self, request: Any) -> dict[str, Any]:
        """Do what the page's script asks for, and return what is to be shown then.

        Args:
            request: ``link``; ``step``: "open", "say", "draw", "next" or "undo"; ``item``, ``field`` and ``value``.

        Returns:
            ``picture`` (None: as it is), ``panel``, and whether something could not be saved (``failed``).

        Raises:
            KeyError, ValueError: a request that the script does not make.
        """
        name = self.study.annotator_of(str(request["link"]))
        if name is None:
            problem = "Ask whoever started the study for your link: it ends in ?key= and your own key."
            panel = _panel("", _NO_ITEM, heading="This link is nobody's", explanation=problem)
            return _shown("", panel)
        if request["step"] == "say":
            return self._said(name, request["item"], request["field"], request["value"])
        if request["step"] == "draw":
            # The first box replaces those of the dataset.
            boxes = self.study.annotation(name, request["item"]).boxes or []
            return self._said(name, request["item"], "boxes", [*boxes, request["value"]])
        if request["step"] == "undo":
            return self._undone(name)
        return self._item(name, self.study.next_item(name))

    def _undone(self, name: str) -> dict[str, Any]:
        """Take the last entry back, and show its item."""
        try:
            item = self.study.undo(name)
        except OSError as error:
            return self._item(name, self.study.next_item(name), _unsaved(error))
        return self._item(name, item or self.study.next_item(name))

    def paint(self, link: str, key: str) -> list[Any]:
        """Open the mask in the editor."""
        name = self.study.annotator_of(link)
        if name is None or key not in self.study.items:
            return [None, *_closed()]
        row, place = self._row(key), self.study.items[key].place
        expression = row.key_expressions[place]
        image = thumbnail(open_rgb(row.images[expression.image]), _PAINTED)
        if max(image.size) < _SMALLEST:
            image = enlarge(image, _SMALLEST)
        mask = Image.fromarray(decode_mask(self.study.annotation(name, key).mask_bytes or row.masks[place]))
        alpha = mask.convert("L").resize(image.size).point(lambda level: _INK if level >= 128 else 0)
        layer = Image.new("RGBA", image.size, (*_BRUSH, 0))
        layer.putalpha(alpha)
        ground = image.convert("RGBA")
        value = {"background": ground, "layers": [layer], "composite": Image.alpha_composite(ground, layer)}
        editor = gr.update(value=value, canvas_size=image.size, visible=True)
        return [(name, key), editor, gr.update(visible=True), gr.update(visible=True)]

    def keep_mask(self, painting: tuple[str, str], painted: dict[str, Any]) -> list[Any]:
        """Take the painted mask."""
        name, key = painting
        row = self._row(key)
        size = row.sizes[row.key_expressions[self.study.items[key].place].image]
        png = encode_mask(painted_mask(painted["layers"], size))
        shown = self._said(name, key, "mask_png", base64.b64encode(png).decode())
        return [shown["picture"], shown["panel"], *_closed()]

    def take_mask_again(self, painting: tuple[str, str]) -> list[Any]:
        """Go back to the dataset's mask."""
        shown = self._said(*painting, "mask_png", "")
        return [shown["picture"], shown["panel"], *_closed()]

    def _said(self, name: str, key: str, field: str, value: Any) -> dict[str, Any]:
        """Write something down."""
        item, problem = self.study.items[key], ""
        try:
            self.study.say(name, key, field, checked_fix(self._row(key), item.place, field, value))
        except OSError as error:
            problem = _unsaved(error)
        except ValueError as error:
            problem = f"Not saved: {error}."
        annotation = self.study.annotation(name, key)
        redrawn = self._picture(key, annotation) if field in ("boxes", "mask_png") else None
        return _shown(redrawn, self._panel(name, item, annotation, problem), problem)

    def _item(self, name: str, item: Item | None, problem: str = "") -> dict[str, Any]:
        """Show an item, or that there are no more."""
        if item is None:
            progress = self.study.progress(name)
            done = f"You have finished {progress.done} items. Everything is saved; you can close this page."
            panel = _panel(name, _NO_ITEM, progress=progress, heading="That was all", explanation=done, problem=problem)
            return _shown("", panel, problem)
        annotation = self.study.annotation(name, item.key)
        panel = self._panel(name, item, annotation, problem)
        return _shown(self._picture(item.key, annotation), panel, problem)

    def _row(self, key: str) -> FiVLRow:
        return validate_row(self.rows[self.study.rows[key]])

    def _picture(self, key: str, annotation: Annotation) -> str:
        row, item = self._row(key), self.study.items[key]
        expression = row.key_expressions[item.place]
        width, height = row.sizes[expression.image]
        image = thumbnail(open_rgb(row.images[expression.image]), _SHOWN)
        layer_size = enlarge(image, _SMALLEST).size if max(image.size) < _SMALLEST else image.size
        mask = decode_mask(annotation.mask_bytes or row.masks[item.place])
        changed = [
            text
            for text, is_changed in (
                ("your mask", annotation.mask_png),
                ("your boxes", annotation.boxes is not None),
            )
            if is_changed
        ]
        return render_page(
            "annotate_picture.html.jinja",
            id=row.id,
            image=picture_url(image, "PNG" if max(image.size) < _SMALLEST else "JPEG"),
            mask=picture_url(evidence_layer(layer_size, [mask], colors=PALETTE)),
            width=width,
            height=height,
            boxes=annotation.boxes if annotation.boxes is not None else expression.boxes,
            coverage=float(np.mean(mask)),
            changed=f"Shown: {' and '.join(changed)}." if changed else "",
        )

    def _panel(self, name: str, item: Item, annotation: Annotation, problem: str = "") -> str:
        row = self._row(item.key)
        return _panel(
            name,
            item,
            progress=self.study.progress(name),
            problem=problem,
            annotation=annotation,
            turns=_turns(row.turns, row.key_expressions[item.place]),
            through_question=row.key_expressions[item.place].start < 0,
            notice=_notice(len(self.study.changed)),
        )


def _shown(picture: str | None, panel: str, problem: str = "") -> dict[str, Any]:
    return {"picture": picture, "panel": panel, "failed": bool(problem)}


def _panel(name: str, item: Item, **values: Any) -> str:
    """Render the panel; what is not given is empty."""
    annotation: Annotation = values.pop("annotation", Annotation(""))
    progress = values.pop("progress", None)
    defaults = {"problem": "", "notice": "", "heading": "", "explanation": "", "turns": (), "through_question": False}
    return render_page(
        "annotate_panel.html.jinja",
        **{**defaults, **values},
        annotator=name,
        shown=next(_SHOWINGS),
        key=item.key if item.id else "",
        text=item.text,
        done=progress.done if progress else 0,
        total=progress.total if progress else 0,
        annotation=annotation,
        fixing=annotation.fixes or bool(annotation.missed),
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
    are = "1 item is gone or looks" if changed == 1 else f"{changed} items are gone or look"
    return f"The dataset has changed since the study began: {are} different now. What you said of them is kept."


def _unsaved(error: OSError) -> str:
    return f"Not saved: {error}. Everything before is safe; when the disk has room again, answer once more."


def _closed() -> list[Any]:
    """The mask's editor, put away."""
    return [gr.update(value=None, visible=False), gr.update(visible=False), gr.update(visible=False)]
