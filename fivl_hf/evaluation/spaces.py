"""The page of a metric's Space: what the number means, a box per input, the score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from fivl_hf.files.json_stream import parse_json

__all__ = ["Field", "metric_page", "parse_lines"]

_PAPER = "[FiVL paper](https://arxiv.org/abs/2412.14672)"


@dataclass(frozen=True)
class Field:
    """A box to fill in.

    Attributes:
        help: what to write there.
        example: what stands there at first.
        lines: height of the box.
    """

    label: str
    help: str
    example: str
    lines: int = 5


def metric_page(title: str, explanation: str, fields: Sequence[Field], score: Callable[..., str]) -> gr.Blocks:
    """Return a page for a metric.

    Args:
        explanation: Markdown: what the metric measures, and what its values mean.
        score: takes the boxes' texts and gives Markdown.
    """
    with gr.Blocks(title=title) as page:
        gr.Markdown(
            f"# {title}\n{explanation}\n\nDefined in the {_PAPER}; *Files*, above, shows how to load it in Python."
        )
        with gr.Column():
            boxes = [
                gr.Textbox(field.example, label=field.label, info=field.help, lines=field.lines) for field in fields
            ]
        button = gr.Button("Score", variant="primary")
        shown = gr.Markdown(label="Result", container=True)
        button.click(score, boxes, shown, api_name="score")
    return page


def parse_lines(text: str, kind: str) -> list[Any]:
    """Return the JSON value of every line that is not empty.

    Raises:
        ValueError: a line that holds none; the message names the box and the line.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                found.append(parse_json(line))
            except ValueError as error:
                raise ValueError(f"{kind}, line {number}: {error}") from error
    return found
