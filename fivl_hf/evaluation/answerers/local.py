"""Ask a transformers model many questions in batches."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from fivl_hf.chat import as_blocks, encode, similar_batches
from fivl_hf.evaluation.answerers.protocol import AnyRequest, Generated, Request

__all__ = ["TransformersAnswerer"]

# Batches among which questions are sorted by length; more would hold more questions in memory.
_SORTED_BATCHES = 64


@dataclass(frozen=True)
class TransformersAnswerer:
    """Answers greedily in batches padded on the left, with the processor's chat template.

    Questions are sorted by length, so that a batch holds little padding.

    Attributes:
        batch_size: questions at a time. Padding moves the last bits of a model's numbers, and so, in half precision, an
            answer now and then: results record it.
        max_new_tokens: longest answer.
        generation: further options of ``model.generate``, such as ``{"num_beams": 3}``.

    Raises:
        ValueError: a batch size below 1.
    """

    splits_over_processes = True
    unanswered = ()

    model: Any
    processor: Any
    batch_size: int = 16
    max_new_tokens: int = 32
    generation: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "dtype": str(self.model.dtype),
            "attention": str(self.model.config._attn_implementation),
            "batch_size": self.batch_size,  # padding moves answers, as do packages' versions
            **{name: version(name) for name in ("transformers", "torch")},
            "max_new_tokens": self.max_new_tokens,
            "generation": dict(self.generation),
        }

    @property
    def details(self) -> dict[str, Any]:
        return {"padding": "left, within a batch of questions of similar length"}

    def answers(self, requests: Iterable[AnyRequest]) -> Iterator[tuple[AnyRequest, Generated]]:
        """Yield requests with their answers, batch by batch."""
        was_training = self.model.training
        self.model.eval()
        try:
            for batch in similar_batches(requests, self.batch_size, _without_images, _length, _SORTED_BATCHES):
                yield from zip(batch, self._answer(batch), strict=True)
        finally:
            self.model.train(was_training)

    @torch.inference_mode()
    def _answer(self, batch: Sequence[Request]) -> list[Generated]:
        started = time.perf_counter()
        images = [list(request.open_images()) for request in batch]
        inputs = encode(
            self.processor,
            [as_blocks(request.messages, request.image_count) for request in batch],
            images,
            prompt=True,
            padding=True,
            padding_side="left",
        ).inputs.to(self.model.device, self.model.dtype)
        options = {"do_sample": False, **self.generation, "max_new_tokens": self.max_new_tokens}
        new = self.model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        ended = torch.isin(new, self._end_tokens().to(new.device)).any(dim=1).tolist()
        seconds = time.perf_counter() - started
        return [
            Generated(text.strip(), "stop" if end else "length", seconds)
            for text, end in zip(texts, ended, strict=True)
        ]

    def _end_tokens(self) -> torch.Tensor:
        ends = self.model.generation_config.eos_token_id
        if ends is None:
            ends = []
        return torch.tensor(ends if isinstance(ends, list) else [ends], dtype=torch.long)


def _without_images(request: Request) -> bool:
    return not request.image_count


def _length(request: Request) -> int:
    return sum(len(message["content"]) for message in request.messages)
