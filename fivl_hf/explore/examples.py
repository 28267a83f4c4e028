"""Questions of a dataset to begin with: among them one where the model looks, and one where it guesses."""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from fivl_hf.schema import RowError, validate_row

__all__ = ["GUESSES", "LOOKS", "Example", "aligned_head", "choose_examples", "with_notes"]

LOOKS = "Uses the image: without the evidence, the answer changes."
GUESSES = "Guesses: without the evidence, the answer stays the same."

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
            for match in re.finditer(rf"(?<!\w){re.escape(text)}(?!\w)", answered.answer, re.IGNORECASE):
                if match.start() < chosen.end and chosen.start < match.end():
                    return decode_mask(mask)
        return None


def choose_examples(rows: Any, count: int, seed: int = 0) -> list[Example]:
    """Draw questions that open a conversation about a single image, with evidence; all if there are fewer.

    Rows that do not fit the schema are left out.

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


def _example(raw: Mapping[str, Any]) -> Example | None:
    """Return the question that opens a row's conversation; None if it is not about one image, or has no evidence."""
    try:
        row = validate_row(raw)
    except RowError:
        return None
    places = [i for i, each in enumerate(row.key_expressions) if each.turn == 0 and each.boxes]
    if len(row.images) != 1 or not places or not row.turns[0].question.strip():
        return None
    expressions = [row.key_expressions[place] for place in places]
    return Example(
        row.id,
        row.images[0],
        row.turns[0].question,
        row.turns[0].answer,
        tuple(box for each in expressions for box in each.boxes),
        tuple(each.text for each in expressions),
        tuple(row.masks[place] for place in places),
    )


def with_notes(explorer: Explorer, examples: Sequence[Example], progress: Progress = iter) -> list[Example]:
    """Return the examples, two of them noted: where blacking out the evidence costs the answer the most, and the least.

    Only right answers (the reference, in upper or lower case) are noted. Questions that cannot be asked are left out.
    """
    askable: list[Example] = []
    drops: list[tuple[bool, bool, float]] = []  # right, lost without the evidence, fall of the log-probability
    for example in progress(examples):
        try:
            answered = explorer.ask(open_rgb(example.image), example.question)
        except ValueError:
            continue  # such as one with a special token of the model
        askable.append(example)
        without = explorer.changed(answered, example.boxes, "black out")
        right = answered.answer.strip(" .").casefold() == example.reference.strip(" .").casefold()
        drop = answered.log_probability - sum(without.log_probabilities)
        drops.append((right, without.answer != answered.answer, drop))
    noted = askable
    for is_lost, note, sign in ((True, LOOKS, 1), (False, GUESSES, -1)):
        numbers = [i for i, (right, lost, _) in enumerate(drops) if right and lost == is_lost]
        if numbers:
            best = max(numbers, key=lambda i: sign * drops[i][2])
            noted[best] = replace(noted[best], note=note)
    return sorted(noted, key=lambda each: (each.note != LOOKS, not each.note))


def aligned_head(explorer: Explorer, rows: Any, ids: Sequence[str], progress: Progress = iter) -> Head | None:
    """Return the head whose attention agrees best with the masks of the rows of some ids; None if there is none."""
    wanted = set(ids)
    numbers = [number for number, id in enumerate(rows["id"]) if id in wanted]

    def pairs() -> Iterable[tuple[Any, Any]]:
        for number in progress(numbers):
            samples = prepare_batch(explorer.model, explorer.processor, [readable(rows[number])])
            for _, evidence, attention in expression_attention(explorer.model, samples):
                own = np.isfinite(evidence.coverage)
                yield attention[..., own], evidence.coverage[own]

    best = top_heads(align(pairs())["spearman"].mean(), 1)
    return (best[0]["layer"], best[0]["head"]) if best else None
