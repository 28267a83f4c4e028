"""A row with the model's own answers in place of the gold ones, as the paper explains heads."""

from collections.abc import Mapping
from typing import Any

import torch

from fivl_hf.chat import as_blocks, encode
from fivl_hf.images import open_rgb
from fivl_hf.masks import decode_mask
from fivl_hf.schema import validate_row

__all__ = ["with_own_answers"]

_LONGEST = 200  # tokens


def with_own_answers(model: Any, processor: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose answers are what the model writes, greedily, and whose expressions are looked for in them.

    Of each turn, the expression with the smallest mask of those that the answer has stays (in any case, also inside a
    word).

    Args:
        model: a transformers vision-language model, or an adapter of one.
        raw: a row with evidence.

    Raises:
        RowError: the row does not fit the schema.
    """
    row = validate_row(raw)
    images = [open_rgb(image) for image in row.images]
    messages: list[dict[str, str]] = []
    for message in row.messages():
        if message["role"] != "assistant":
            messages.append(dict(message))
            continue
        answer = _greedy(model, processor, messages, images)
        messages.append({"role": "assistant", "content": answer})
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    sizes = [int(decode_mask(mask).sum()) for mask in row.masks]
    smallest: dict[int, int] = {}
    for number, expression in enumerate(row.key_expressions):
        found = expression.text.lower() in answers[expression.turn].lower()
        known = smallest.get(expression.turn)
        if found and (known is None or sizes[number] < sizes[known]):
            smallest[expression.turn] = number
    kept = sorted(smallest.values())
    return {
        **raw,
        "messages": messages,
        "key_expressions": [_placed(raw["key_expressions"][number], answers) for number in kept],
        "masks": [raw["masks"][number] for number in kept],
    }


def _placed(expression: Mapping[str, Any], answers: list[str]) -> dict[str, Any]:
    start = answers[expression["turn"]].lower().index(expression["text"].lower())
    end = start + len(expression["text"])
    return {**expression, "start": start, "end": end, "text": answers[expression["turn"]][start:end]}


@torch.inference_mode()
def _greedy(model: Any, processor: Any, messages: list[dict[str, str]], images: list[Any]) -> str:
    encoded = encode(processor, [as_blocks(messages, len(images))], [images], prompt=True)
    inputs = encoded.inputs.to(model.device, model.dtype)
    written = model.generate(**inputs, do_sample=False, max_new_tokens=_LONGEST)[0, inputs["input_ids"].shape[1] :]
    text = str(processor.tokenizer.decode(written, skip_special_tokens=True)).strip()
    return text or "."  # an empty answer is no conversation
