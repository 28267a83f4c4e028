"""Ask a transformers model many questions in batches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from tqdm.auto import tqdm

from fivl_hf.chat import as_blocks, encode

__all__ = ["GenerationRequest", "generate_answers"]

# The conversation up to the question, and how to get its images: they are opened batch by batch.
GenerationRequest = tuple[Sequence[dict[str, str]], Callable[[], Sequence[Image.Image]]]


def generate_answers(
    model: Any,
    processor: Any,
    requests: Sequence[GenerationRequest],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 32,
    description: str = "Answering",
) -> Iterator[tuple[int, str]]:
    """Answer (messages, images) pairs greedily.

    The chat template is the processor's; batches are padded on the left. Questions are answered shortest first, so that
    a batch holds little padding.

    Yields:
        Number and answer of each pair, batch by batch.

    Raises:
        ValueError: a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    order = sorted(range(len(requests)), key=lambda i: sum(len(message["content"]) for message in requests[i][0]))
    was_training = model.training
    model.eval()
    try:
        with tqdm(total=len(requests), desc=description, unit="question") as progress:
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                answers = _answer(model, processor, [requests[i] for i in chosen], max_new_tokens)
                yield from zip(chosen, answers, strict=True)
                progress.update(len(chosen))
    finally:
        model.train(was_training)


@torch.inference_mode()
def _answer(model: Any, processor: Any, requests: Sequence[GenerationRequest], max_new_tokens: int) -> list[str]:
    images = [open_images() for _, open_images in requests]
    inputs = encode(
        processor,
        [as_blocks(messages, len(row_images)) for (messages, _), row_images in zip(requests, images, strict=True)],
        images,
        prompt=True,
        padding=True,
        padding_side="left",
    ).inputs.to(model.device, model.dtype)
    generated = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    new = generated[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in processor.tokenizer.batch_decode(new, skip_special_tokens=True)]
