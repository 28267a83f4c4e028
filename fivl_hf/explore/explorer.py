"""One model, one image, one question: its answer, where it looked, and what changes when the image does.

Shapes: L layers, H heads, N visual tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fivl_hf.evaluation.conditions import apply
from fivl_hf.evaluation.perturb import random_boxes
from fivl_hf.explain.effects import token_log_probabilities
from fivl_hf.explain.lens import top_predictions
from fivl_hf.explain.observation import token_attention
from fivl_hf.explain.own_answers import greedy_answers
from fivl_hf.explain.samples import ReadableRow, Sample, prepare_batch
from fivl_hf.keywords import span_tokens
from fivl_hf.masks import FloatArray
from fivl_hf.schema import FiVLRow, Turn

__all__ = ["CHANGES", "Answered", "Box", "Change", "Changed", "Explorer", "Reliance", "Word"]

Box = tuple[float, float, float, float]
Change = Literal["black out", "keep only", "blur"]
CHANGES: tuple[Change, ...] = get_args(Change)

_CONDITIONS = {"black out": "removed", "keep only": "kept", "blur": "removed-blur"}
_WORD = re.compile(r"\S+")
_LONGEST = 2000
# Random boxes; images at a time, since each may be many tokens.
_DRAWS, _BATCH = 20, 4


@dataclass(frozen=True)
class Word:
    """A word of an answer.

    Attributes:
        start, end: its characters in the answer.
        tokens: their positions in the sequence.
        log_probability: of all its tokens, given what stands before.
    """

    text: str
    start: int
    end: int
    tokens: NDArray[np.intp]
    log_probability: float


@dataclass(frozen=True, eq=False)
class Answered:
    """A question, what the model answered, and how it looked at the image meanwhile.

    Attributes:
        answer: "" if the model ends at once.
        attention: for each word (L, H, N) float16, the mean over its tokens.
        kept: what was worked out about it, by request.
    """

    image: Image.Image
    question: str
    answer: str
    words: tuple[Word, ...]
    attention: tuple[NDArray[np.float16], ...]
    sample: Sample
    kept: dict[Any, Any] = field(default_factory=dict)

    @property
    def log_probability(self) -> float:
        """Return the log-probability of the whole answer."""
        return float(sum(word.log_probability for word in self.words))

    def token_at(self, x: float, y: float) -> int | None:
        """Return the visual token that sees a place of the image, the smallest of several; None if none does."""
        x0, y0, x1, y1 = self.sample.boxes.T
        inside = np.flatnonzero((x0 <= x) & (x < x1) & (y0 <= y) & (y < y1))
        areas = ((x1 - x0) * (y1 - y0))[inside]
        return int(inside[np.argmin(areas)]) if len(inside) else None


@dataclass(frozen=True)
class Changed:
    """The answer about a changed image, beside the first one.

    Attributes:
        image: the changed one.
        answer: what the model answers now.
        log_probabilities: of the words of the *first* answer, on the changed image.
    """

    image: Image.Image
    answer: str
    log_probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Reliance:
    """The dependence of one answer on a box, beside random boxes of the same size.

    Attributes:
        answer: with the box blacked out.
        stays: whether that is the first answer.
        drop: by how much the first answer's log-probability falls.
        random_stays: how many of the random boxes leave the answer as it is.
        random_drops: the fall of the log-probability for each of them.
    """

    answer: str
    stays: bool
    drop: float
    random_stays: int
    random_drops: tuple[float, ...]

    @property
    def score(self) -> float:
        """Return the Visual Reliance Score of this question, its first answer taken as right: 1 if it is lost."""
        return 0.0 if self.stays else 1.0

    @property
    def random_score(self) -> float:
        """Return the same for random boxes: the share of them with which the answer is lost."""
        return 1 - self.random_stays / max(len(self.random_drops), 1)


class Explorer:
    """Asks a model, and looks into it. What is worked out about an answer is kept with it.

    Args:
        model: a transformers vision-language model, or an adapter of one.
        name: for people.
    """

    def __init__(self, model: Any, processor: Any, name: str) -> None:
        self.model, self.processor, self.name = model.eval(), processor, name
        config = model.config.get_text_config()
        self.layers, self.heads = int(config.num_hidden_layers), int(config.num_attention_heads)

    def ask(self, image: Image.Image, question: str) -> Answered:
        """Ask a question about an image.

        Raises:
            ValueError: a question that is blank, too long, or contains a special token of the model.
        """
        if not question.strip() or len(question) > _LONGEST:
            raise ValueError(f"a question of 1 to {_LONGEST:,} characters is needed")
        if marks := [mark for mark in self.processor.tokenizer.all_special_tokens if mark in question]:
            raise ValueError(f"the question contains the special token {marks[0]!r}: remove it")
        image = image.convert("RGB")
        (answer,) = self._answers([image], question)
        (sample,) = self._samples([image], question, answer)
        spans = [match.span() for match in _WORD.finditer(answer)]
        start = sample.answers[0].text_start if spans else 0
        tokens = [span_tokens(sample.offsets, start + first, start + last) for first, last in spans]
        with_tokens = [number for number, each in enumerate(tokens) if len(each)]
        positions = [tokens[number] for number in with_tokens]
        (scores,) = self._word_scores([sample], positions)
        attention = token_attention(self.model, sample, positions) if positions else []
        words = [
            Word(answer[slice(*spans[number])], *spans[number], tokens[number], score)
            for number, score in zip(with_tokens, scores, strict=True)
        ]
        looks = tuple(each.astype(np.float16) for each in attention if each is not None)
        return Answered(image, question, answer, tuple(words), looks, sample)

    def predictions(self, asked: Answered, token: int) -> list[list[tuple[str, float]]]:
        """Return what a visual token predicts after every layer: five words with probabilities, the likeliest first.

        Returns:
            nothing for a model whose visual tokens are not part of the token sequence.
        """
        decode = self.processor.tokenizer.decode
        if ("token", token) not in asked.kept:
            asked.kept["token", token] = [
                [(decode([id]), probability) for id, probability in layer]
                for layer in top_predictions(self.model, asked.sample, token)
            ]
        predicted: list[list[tuple[str, float]]] = asked.kept["token", token]
        return predicted

    def changed(self, asked: Answered, boxes: tuple[Box, ...], how: Change) -> Changed:
        """Ask again about the image with some boxes changed."""
        if (boxes, how) not in asked.kept:
            image = _shown(_CONDITIONS[how], asked.image, np.array(boxes))
            (answer,) = self._answers([image], asked.question)
            (scores,) = self._scores([image], asked)
            asked.kept[boxes, how] = Changed(image, answer, tuple(scores))
        changed: Changed = asked.kept[boxes, how]
        return changed

    def reliance(self, asked: Answered, boxes: tuple[Box, ...]) -> Reliance:
        """Black boxes out, and 20 times random boxes of their sizes."""
        if boxes not in asked.kept:
            size = asked.image.size
            hidden: list[FloatArray] = [np.array(boxes)]
            hidden += [random_boxes(boxes, size, draw).boxes for draw in range(_DRAWS)]
            images = [_shown("removed", asked.image, each) for each in hidden]
            answers, drops = [], []
            for start in range(0, len(images), _BATCH):
                batch = images[start : start + _BATCH]
                answers += self._answers(batch, asked.question)
                drops += [asked.log_probability - float(sum(scores)) for scores in self._scores(batch, asked)]
            stays = [answer == asked.answer for answer in answers]
            asked.kept[boxes] = Reliance(answers[0], stays[0], drops[0], sum(stays[1:]), tuple(drops[1:]))
        reliance: Reliance = asked.kept[boxes]
        return reliance

    def _answers(self, images: Sequence[Image.Image], question: str) -> list[str]:
        conversation = [{"role": "user", "content": question}]
        return greedy_answers(self.model, self.processor, [conversation] * len(images), [[image] for image in images])

    def _samples(self, images: Sequence[Image.Image], question: str, answer: str) -> list[Sample]:
        # No conversation is encoded with an empty answer.
        turns = (Turn(question, answer or "."),)
        rows = [
            ReadableRow(FiVLRow("explored", (image,), turns, (), (), "", (image.size,)), (image,)) for image in images
        ]
        return prepare_batch(self.model, self.processor, rows)

    def _scores(self, images: Sequence[Image.Image], asked: Answered) -> list[list[float]]:
        """Return the log-probabilities of the words of an answer for each of some images of the same size."""
        samples = self._samples(images, asked.question, asked.answer)
        return self._word_scores(samples, [word.tokens for word in asked.words])

    def _word_scores(self, samples: Sequence[Sample], words: Sequence[NDArray[np.intp]]) -> list[list[float]]:
        """Return the log-probability of each word (its tokens' positions, the same in all samples of a batch)."""
        if not words:
            return [[] for _ in samples]
        together, ends = np.concatenate(words), np.cumsum([len(each) for each in words])[:-1]
        found = token_log_probabilities(self.model, samples[0].inputs, [together] * len(samples))
        return [[float(part.sum()) for part in np.split(values, ends)] for values, _ in found]


def _shown(condition: str, image: Image.Image, boxes: FloatArray) -> Image.Image:
    """Return an image under a condition that shows one."""
    shown = apply(condition, image, boxes)
    assert shown is not None, condition
    return shown
