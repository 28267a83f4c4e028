"""Grounders: a conversation's images and an expression in, the evidence for it out."""

from dataclasses import dataclass
from typing import Protocol

from fivl_hf.masks import BoolArray

__all__ = ["Conversation", "Grounder", "Grounding"]


@dataclass(frozen=True)
class Conversation:
    """A sample before augmentation: pictures as encoded bytes, messages as plain text in chat format."""

    id: str
    images: tuple[bytes, ...]
    messages: tuple[dict[str, str], ...]
    source: str


@dataclass(frozen=True)
class Grounding:
    """Where an image shows an expression: a (H, W) mask, its boxes in pixels, the detector's best score."""

    mask: BoolArray
    boxes: tuple[tuple[float, float, float, float], ...]
    score: float | None = None
    image: int = 0


class Grounder(Protocol):
    """Finds the evidence for expressions; None for an expression of which nothing is detected."""

    def ground(self, conversation: Conversation, expressions: list[str]) -> list[Grounding | None]: ...
