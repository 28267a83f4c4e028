"""Rows with the model's own answers in place of the gold ones, as the paper explains heads."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from fivl_hf.chat import Message, as_blocks, encode
from fivl_hf.explain.samples import ReadableRow
from fivl_hf.masks import decode_mask
from fivl_hf.schema import KeyExpression, Turn

__all__ = ["greedy_answers", "with_own_answers"]

_LONGEST = 200  # tokens


def with_own_answers(model: Any, processor: Any, rows: Sequence[ReadableRow]) -> list[ReadableRow]:
    """Return rows whose answers are what the model writes, greedily, and whose expressions are looked for in them.

    Of each turn, only the expression with the smallest mask among those that occur in the answer is kept; upper and
    lower case are not distinguished, and a match inside a word counts.

    Args:
        model: a transformers vision-language model, or an adapter of one.
        rows: that all have the same number of images.
    """
    turns = [list(each.row.turns) for each in rows]
    for turn in range(max(map(len, turns), default=0)):
        numbers = [number for number, of_row in enumerate(turns) if turn < len(of_row)]
        prompts = [replace(rows[number].row, turns=tuple(turns[number])).messages(turn) for number in numbers]
        answers = greedy_answers(model, processor, prompts, [rows[number].images for number in numbers])
        for number, answer in zip(numbers, answers, strict=True):
            # The schema refuses an empty answer.
            turns[number][turn] = replace(turns[number][turn], answer=answer or ".")
    return [_answered(each, of_row) for each, of_row in zip(rows, turns, strict=True)]


def _answered(given: ReadableRow, turns: Sequence[Turn]) -> ReadableRow:
    row = given.row
    sizes = [int(decode_mask(mask).sum()) for mask in row.masks]
    kept: dict[int, int] = {}  # of each turn, the expression with the smallest mask
    placed = [_placed(expression, turns[expression.turn].answer) for expression in row.key_expressions]
    for number, expression in enumerate(placed):
        if expression is None:
            continue
        known = kept.get(expression.turn)
        if known is None or sizes[number] < sizes[known]:
            kept[expression.turn] = number
    expressions = tuple(expression for number in sorted(kept.values()) if (expression := placed[number]))
    masks = tuple(row.masks[number] for number in sorted(kept.values()))
    return replace(given, row=replace(row, turns=tuple(turns), key_expressions=expressions, masks=masks))


def _placed(expression: KeyExpression, answer: str) -> KeyExpression | None:
    """Return an expression where an answer has it; None if it does not."""
    found = re.search(re.escape(expression.text), answer, re.IGNORECASE)
    return found and replace(expression, start=found.start(), end=found.end(), text=found[0])


@torch.inference_mode()
def greedy_answers(
    model: Any, processor: Any, conversations: Sequence[Sequence[Message]], images: Sequence[Sequence[Image.Image]]
) -> list[str]:
    """Return what a model answers, greedily, with at most 200 tokens.

    Args:
        conversations: messages up to the question.
        images: of each conversation; all have the same number.
    """
    encoded = encode(
        processor,
        [as_blocks(messages, len(shown)) for messages, shown in zip(conversations, images, strict=True)],
        images,
        prompt=True,
        padding=True,
        padding_side="left",
    )
    inputs = encoded.inputs.to(model.device, model.dtype)
    written = model.generate(**inputs, do_sample=False, max_new_tokens=_LONGEST)[:, inputs["input_ids"].shape[1] :]
    texts = processor.tokenizer.batch_decode(written, skip_special_tokens=True)
    return [text.strip() for text in texts]
