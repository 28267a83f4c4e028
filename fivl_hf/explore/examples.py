"""Questions of a dataset to begin with: among them one where the model looks, and one where it guesses."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fivl_hf.explain.alignment import align, top_heads
from fivl_hf.explain.knockout import Head
from fivl_hf.explain.localization import expression_attention
from fivl_hf.explain.samples import prepare_batch, readable
from fivl_hf.explore.explorer import Answered, Box, Explorer
from fivl_hf.images import open_rgb
from fivl_hf.masks import BoolArray, decode_mask

__all__ = ["GUESSES", "LOOKS", "Example", "aligned_head", "choose_examples", "with_notes"]

LOOKS = "It looks: without the evidence, the answer is lost."
GUESSES = "It guesses: without the evidence, the answer stays."

Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Example:
    """A question of a dataset about one image.

    Attributes:
        image: encoded, as the row holds it.
        reference: the answer in the dataset.
        boxes: of its key expressions.
        expressions: their words.
        masks: their masks, encoded.
        note: what it shows; "" for most.
    """

    id: str
    image: Any
    question: str
    reference: str
    boxes: tuple[Box, ...]
    expressions: tuple[str, ...]
    masks: tuple[Any, ...]
    note: str = ""

    def mask_of(self, answered: Answered, word: int) -> BoolArray | None:
        """Return the mask (H, W) of the key expression that a word of an answer belongs to; None if to none."""
        chosen = answered.words[word]
        for text, mask in zip(self.expressions, self.masks, strict=True):
            start = answered.answer.casefold().find(text.casefold())
            if 0 <= start < chosen.end and chosen.start < start + len(text):
                return decode_mask(mask)
        return None


def choose_examples(rows: Any, count: int, seed: int = 0) -> list[Example]:
    """Draw questions that open a conversation about a single image, with evidence; all if there are fewer.

    Args:
        rows: dataset, images left encoded (:func:`fivl_hf.storage.load_rows`).
    """
    numbers = list(range(len(rows)))
    random.Random(seed).shuffle(numbers)
    found: list[Example] = []
    for number in numbers:
        if len(found) == count:
            break
        if example := _example(rows[number]):
            found.append(example)
    return found


def _example(row: dict[str, Any]) -> Example | None:
    of_turn = [i for i, each in enumerate(row["key_expressions"]) if each["turn"] == 0 and each["boxes"]]
    if len(row["images"]) != 1 or not of_turn:
        return None
    if "messages" in row:
        question, answer = [each["content"] for each in row["messages"] if each["role"] != "system"][:2]
    else:
        question, answer = row["question"], row["answers"][0]
    chosen = [row["key_expressions"][i] for i in of_turn]
    return Example(
        row["id"],
        row["images"][0],
        question,
        answer,
        tuple((float(x0), float(y0), float(x1), float(y1)) for each in chosen for x0, y0, x1, y1 in each["boxes"]),
        tuple(each["text"] for each in chosen),
        tuple(row["masks"][i] for i in of_turn),
    )


def with_notes(explorer: Explorer, examples: Sequence[Example], progress: Progress = iter) -> list[Example]:
    """Return the examples, two of them noted: where blacking out the evidence costs the answer the most, and the least.

    Of the answers that are right (the reference, in upper or lower case), if there are two; of all otherwise.
    """
    drops: list[tuple[bool, bool, float]] = []  # right, lost without the evidence, fall of the log-probability
    for example in progress(examples):
        answered = explorer.ask(open_rgb(example.image), example.question)
        without = explorer.changed(answered, example.boxes, "black out")
        right = answered.answer.strip(" .").casefold() == example.reference.strip(" .").casefold()
        drop = answered.log_probability - sum(without.log_probabilities)
        drops.append((right, without.answer != answered.answer, drop))
    lost = [i for i, (_, is_lost, _) in enumerate(drops) if is_lost]
    kept = [i for i, (_, is_lost, _) in enumerate(drops) if not is_lost]
    noted = list(examples)
    for numbers, note, sign in ((lost, LOOKS, 1), (kept, GUESSES, -1)):
        best = max(numbers, key=lambda i: (drops[i][0], sign * drops[i][2]), default=None)
        if best is not None:
            noted[best] = replace(noted[best], note=note)
    return sorted(noted, key=lambda each: (each.note != LOOKS, not each.note))


def aligned_head(explorer: Explorer, rows: Any, count: int, seed: int = 0, progress: Progress = iter) -> Head | None:
    """Return the head whose attention agrees best with the masks of some rows; None if there is none."""
    numbers = random.Random(seed).sample(range(len(rows)), min(count, len(rows)))

    def pairs() -> Iterable[tuple[Any, Any]]:
        for number in progress(numbers):
            samples = prepare_batch(explorer.model, explorer.processor, [readable(rows[number])])
            for _, evidence, attention in expression_attention(explorer.model, samples):
                own = np.isfinite(evidence.coverage)
                yield attention[..., own], evidence.coverage[own]

    best = top_heads(align(pairs())["spearman"].mean(), 1)
    return (best[0]["layer"], best[0]["head"]) if best else None
