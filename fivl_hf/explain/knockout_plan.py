"""Plans of knock-outs: which sets of heads, and curves of their effects beside those of random sets."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from fivl_hf.explain.effects import AnswerBatches, Effect, Reading, effects, read_answers
from fivl_hf.explain.head_sets import SETS, HeadScores, SetName, head_sets, layer_windows, score_heads, set_sizes
from fivl_hf.explain.knockout import Head, How
from fivl_hf.explain.samples import prepare_batch, readable, row_batches

__all__ = ["KnockoutPlan", "knockout_curves", "plan_knockout", "scores_on"]


@dataclass(frozen=True)
class KnockoutPlan:
    """Sets of heads to knock out.

    Attributes:
        ranked: of each kind of set, the heads, the best first.
        sizes: numbers of heads.
        sets: heads by name.
        scores: of all heads.
    """

    ranked: Mapping[str, Sequence[Head]]
    sizes: Sequence[int]
    sets: Mapping[SetName, Sequence[Head]]
    scores: HeadScores

    def curves(self, effects_by_set: Mapping[SetName, Effect], before: Reading) -> dict[str, Any]:
        """Return what :func:`knockout_curves` does, from the effects of all sets."""
        result: dict[str, Any] = {
            "sizes": list(self.sizes),
            "before": {**asdict(before), "expression_reliance": before.expression_reliance},
            "sets": {
                name: {
                    "heads": [list(head) for head in self.ranked[name][: max(self.sizes)]],
                    "effects": [
                        self._compared(effects_by_set, name, size)
                        for size in self.sizes
                        if size <= len(self.ranked[name])
                    ],
                }
                for name in SETS
            },
        }
        windows = [
            {"layers": [min(layers), max(layers)], **asdict(effects_by_set[name])}
            for name, heads in self.sets.items()
            if name[0] == "layers" and (layers := {layer for layer, _ in heads})
        ]
        return {**result, **({"windows": windows} if windows else {})}

    def _compared(self, effects_by_set: Mapping[SetName, Effect], name: str, size: int) -> dict[str, Any]:
        own = effects_by_set[name, size, -1]
        names = [each for each in self.sets if each[:2] == (name, size) and each[2] >= 0]
        random = [effects_by_set[each] for each in names]
        beyond = sum(each.specific >= own.specific for each in random)
        return {
            "k": size,
            **asdict(own),
            "image_attention": self._image_attention((name, size, -1)),
            "random": {
                **{field: [getattr(each, field) for each in random] for field in asdict(own)},
                "image_attention": [self._image_attention(each) for each in names],
            },
            "p": (1 + beyond) / (1 + len(random)),
        }

    def _image_attention(self, name: SetName) -> float:
        """Return the mean share of their attention that a set's heads give to the image."""
        return float(np.mean([self.scores.mass[head] for head in self.sets[name]]))


def plan_knockout(
    scores: HeadScores, *, sizes: Sequence[int] | None = None, draws: int = 20, seed: int = 0, window: int | None = None
) -> KnockoutPlan:
    """Choose the sets of heads.

    Args:
        scores: of all heads, on other rows than those on which the sets are knocked out.
        sizes: numbers of heads (:func:`fivl_hf.explain.head_sets.set_sizes`).
        draws: random sets for each size, matched by layer and by attention to the image.
        seed: of the random sets.
        window: also knock out all heads of every ``window`` consecutive layers.

    Raises:
        ValueError: no size, one that leaves fewer heads than it takes, or more layers than there are.
    """
    wanted = set_sizes(scores, sizes)
    sets = head_sets(scores, wanted, draws, seed)
    if window:
        sets |= layer_windows(scores, window)
    return KnockoutPlan({name: scores.ranked(name) for name in SETS}, wanted, sets, scores)


def knockout_curves(
    model: Any,
    processor: Any,
    choosing: Sequence[Mapping[str, Any]],
    measuring: Sequence[Mapping[str, Any]],
    *,
    how: How = "zero",
    batch_size: int = 16,
    **options: Any,
) -> dict[str, Any]:
    """Knock out more and more of the best-aligned, of the localization and of the least-aligned heads.

    Beside each set, random ones like it. There may be fewer localization heads than the largest size.

    Args:
        choosing: rows that heads are chosen on.
        measuring: rows about other images, on which it is measured what they do.
        options: sizes, draws, seed and window of :func:`plan_knockout`.

    Returns:
        ``sizes``; ``before``, the :class:`~fivl_hf.explain.effects.Reading` of the whole model; ``sets``: of each, its
        ``heads``, the best first, and for each size the :class:`~fivl_hf.explain.effects.Effect`, those of the random
        sets (``random``: of each field, a value for each set; in a small model, there may be fewer different ones than
        ``draws``), both with ``image_attention``, the mean share of the heads' attention that goes to the image; and
        ``p``, (1 + random sets with at least its ``specific`` effect) / (1 + random sets); with a window, ``windows``:
        ``layers``, first and last, and the effect.

    Raises:
        ValueError: rows without evidence, or what ``plan_knockout`` raises.
    """
    plan = plan_knockout(scores_on(model, processor, choosing, batch_size), **options)
    batches = AnswerBatches(model, processor, measuring, batch_size)
    before = read_answers(model, batches)
    return plan.curves(dict(effects(model, batches, plan.sets, how, before=before)), before)


def scores_on(model: Any, processor: Any, rows: Sequence[Mapping[str, Any]], batch_size: int = 16) -> HeadScores:
    """Return the scores of all heads on some rows; raises ValueError if no row has evidence."""
    batches = row_batches(rows, range(len(rows)), batch_size)
    progress = tqdm(batches, desc="Choosing heads", unit="batch", total=-(-len(rows) // batch_size))
    return score_heads(
        model, (prepare_batch(model, processor, [readable(row) for _, row in batch]) for batch in progress)
    )
