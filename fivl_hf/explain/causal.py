"""Do the heads that look at the evidence matter? Sets of them are knocked out, beside random sets like them.

Shapes: L layers, H heads.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from fivl_hf.explain.alignment import AlignmentMap
from fivl_hf.explain.knockout import Head, How, knock_out, mean_outputs
from fivl_hf.explain.localization import HeadVotes, expression_attention, expression_maps, votes_among
from fivl_hf.explain.measures import auroc
from fivl_hf.explain.samples import Sample, prepare
from fivl_hf.files.appended import AppendedLines
from fivl_hf.keywords import span_tokens
from fivl_hf.masks import FloatArray

__all__ = [
    "SETS",
    "Effect",
    "HeadScores",
    "effect_file",
    "effects",
    "knockout_curves",
    "matched_heads",
    "score_heads",
    "without_images",
]

SETS = ("aligned", "localization", "least aligned")
SetName = tuple[str, int, int]
"""One of ``SETS``, a number of heads, and which random set like it that is; -1 is the set itself."""

# Of the heads of a layer, those nearest in their attention to the image that a random one is drawn from.
_NEAREST = 4
_LARGEST_SET = 64


@dataclass(frozen=True)
class HeadScores:
    """The scores by which heads are chosen, and random ones matched to them.

    Attributes:
        auroc: (L, H) mean AUROC of the attention against the masks; NaN for a head that does not look at the image.
        mass: (L, H) mean share of the attention that goes to the image.
        localization: the localization heads, the best first.
    """

    auroc: FloatArray
    mass: FloatArray
    localization: tuple[Head, ...] = ()

    def ranked(self, name: str) -> list[Head]:
        """Return one of ``SETS``, the best first; all heads that look at the image, but for localization heads."""
        if name == "localization":
            return list(self.localization)
        signed = self.auroc if name == "least aligned" else -self.auroc
        places = [np.unravel_index(place, signed.shape) for place in np.argsort(signed, axis=None, kind="stable")]
        return [(int(layer), int(head)) for layer, head in places if np.isfinite(signed[layer, head])]


@dataclass(frozen=True)
class Effect:
    """The effect of a set of heads on the log-probabilities of tokens, in nats.

    Attributes:
        expression: mean fall of the key expressions' tokens.
        other: mean fall of the answers' other tokens.
        text_only: mean fall of the answers' tokens where the images are left out; its exponential is how many times
            the perplexity of text grows: damage, if it is large.
        specific: ``expression`` minus ``other``.
    """

    expression: float
    other: float
    text_only: float
    specific: float


def score_heads(model: Any, samples: Iterable[Sample]) -> HeadScores:
    """Score all heads on some samples; what they do is to be measured on others.

    Raises:
        ValueError: no sample has an expression whose tokens and mask can be compared.
    """
    scores, masses = AlignmentMap(), []
    votes: HeadVotes | None = None
    for sample in samples:
        for evidence, heads in expression_attention(model, sample):
            sees = np.isfinite(evidence.coverage)
            scores.add(auroc(heads[..., sees], evidence.coverage[sees]))
            masses.append(heads.sum(axis=-1))
            if evidence.mask.any():
                votes = votes or votes_among(len(heads))
                votes.add(expression_maps(sample, evidence, heads))
    if not scores.n or votes is None:
        raise ValueError("no row has a key expression whose tokens and mask can be compared")
    return HeadScores(scores.mean(), np.mean(masses, axis=0), tuple(votes.ranked()))


def matched_heads(chosen: Sequence[Head], scores: HeadScores, rng: np.random.Generator) -> list[Head]:
    """Draw as many other heads: for each, one of its layer, among those nearest in their attention to the image.

    Where a layer has none left, one of the nearest of all layers.

    Raises:
        ValueError: fewer other heads than chosen ones.
    """
    free = {head for head in scores.ranked("aligned") if head not in set(chosen)}
    if len(free) < len(chosen):
        raise ValueError(f"{len(chosen)} heads cannot be matched: the model has {len(free)} others that see the image")
    drawn = []
    for layer, head in chosen:
        mass = scores.mass[layer, head]
        candidates = [each for each in free if each[0] == layer] or list(free)
        nearest = sorted(candidates, key=lambda each: (abs(scores.mass[each] - mass), each))[:_NEAREST]
        drawn.append(nearest[int(rng.integers(len(nearest)))])
        free.remove(drawn[-1])
    return drawn


def effects(
    model: Any,
    samples: Sequence[Sample],
    text_only: Sequence[Sample],
    sets: Mapping[SetName, Sequence[Head]],
    how: How = "zero",
) -> Iterator[tuple[SetName, Effect]]:
    """Measure what each of some sets of heads does, one by one.

    Args:
        samples: rows with evidence.
        text_only: conversations without images; see :func:`without_images`.
        sets: heads by name.
        how: see :func:`fivl_hf.explain.knockout.knock_out`.
    """
    if not sets:
        return
    means = mean_outputs(model, (_inputs(model, sample) for sample in samples)) if how == "mean" else None
    expression, other = (_places(samples, of_expressions=which) for which in (True, False))
    text = _places(text_only, of_expressions=False)
    plain = _log_probabilities(model, samples), _log_probabilities(model, text_only)
    for name, heads in tqdm(sets.items(), desc="Knocking out", unit="set"):
        with knock_out(model, heads, how, means=means):
            under = _log_probabilities(model, samples), _log_probabilities(model, text_only)
        falls = [[a - b for a, b in zip(*each, strict=True)] for each in zip(plain, under, strict=True)]
        on_expression, on_other = (_mean(falls[0], places) for places in (expression, other))
        yield name, Effect(on_expression, on_other, _mean(falls[1], text), on_expression - on_other)


def knockout_curves(
    model: Any,
    processor: Any,
    choosing: Sequence[Mapping[str, Any]],
    measuring: Sequence[Mapping[str, Any]],
    *,
    how: How = "zero",
    sizes: Sequence[int] | None = None,
    draws: int = 20,
    seed: int = 0,
    file: AppendedLines[tuple[SetName, Effect]] | None = None,
) -> dict[str, Any]:
    """Knock out more and more of the best-aligned, of the localization and of the least-aligned heads.

    Beside each set, random ones like it. There may be fewer localization heads than the largest size.

    Args:
        choosing: rows that heads are chosen on.
        measuring: rows about other images, on which it is measured what they do.
        sizes: numbers of heads; by default 1, 2, 4, ... 64, up to half of the heads that see the image.
        draws: random sets for each size, matched by layer and by attention to the image.
        seed: of the random sets.
        file: effects that are known already (:func:`effect_file`); new ones are added as they come.

    Returns:
        ``how``, ``sizes``, ``n`` (tokens of expressions), ``sets``: of each, its ``heads``, the best first, and for
        each size the :class:`Effect`, those of the random sets (``random``: of each field, a value for each set), and
        ``p``, (1 + random sets with at least its ``specific`` effect) / (1 + ``draws``).

    Raises:
        ValueError: rows without evidence, no size, or one that leaves fewer heads than it takes.
    """
    scores = score_heads(model, _prepared(model, processor, choosing, "Choosing heads"))
    samples = [sample for sample in _prepared(model, processor, measuring, "Preparing") if sample.evidence]
    if not any(len(evidence.tokens) for sample in samples for evidence in sample.evidence):
        raise ValueError("none of the rows to measure on has a key expression in its answers")
    text_only = [prepare(model, processor, without_images(row)) for row in measuring]
    heads = len(scores.ranked("aligned"))
    wanted = list(sizes or _default_sizes(heads))
    if not wanted or min(wanted) < 1 or max(wanted) > heads // 2:
        raise ValueError(f"sizes must be from 1 to {heads // 2}, half of the {heads} heads that see the image")
    rng = np.random.default_rng(seed)
    ranked = {name: scores.ranked(name) for name in SETS}
    sets: dict[SetName, list[Head]] = {}
    for name in SETS:
        for size in (each for each in wanted if each <= len(ranked[name])):
            chosen = ranked[name][:size]
            sets[name, size, -1] = chosen
            sets |= {(name, size, draw): matched_heads(chosen, scores, rng) for draw in range(draws)}
    found = dict(file or ())
    for set_name, effect in effects(
        model, samples, text_only, {key: heads for key, heads in sets.items() if key not in found}, how
    ):
        found[set_name] = effect
        if file is not None:
            file.append([(set_name, effect)])
    return {
        "how": how,
        "sizes": wanted,
        "n": int(sum(places.sum() for places in _places(samples, of_expressions=True))),
        "sets": {
            name: {
                "heads": [list(head) for head in ranked[name][: max(wanted)]],
                "effects": [_compared(found, name, size, draws) for size in wanted if size <= len(ranked[name])],
            }
            for name in SETS
        },
    }


def effect_file(path: Path) -> AppendedLines[tuple[SetName, Effect]]:
    """Return the file of the effects of sets of heads, which need not exist yet; iterating raises ValueError for
    another file."""
    return AppendedLines(
        path,
        "the effect of a set of heads",
        read=lambda raw: ((raw["set"], raw["k"], raw["draw"]), Effect(**raw["effect"])),
        write=lambda entry: {**dict(zip(("set", "k", "draw"), entry[0], strict=True)), "effect": asdict(entry[1])},
    )


def without_images(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose conversation is asked without its images."""
    return {**row, "images": [], "key_expressions": [], "masks": []}


def _default_sizes(heads: int) -> list[int]:
    return [size for size in (2**power for power in range(7)) if size <= min(_LARGEST_SET, heads // 2)]


def _compared(found: Mapping[SetName, Effect], name: str, size: int, draws: int) -> dict[str, Any]:
    own = found[name, size, -1]
    random = [found[name, size, draw] for draw in range(draws)]
    beyond = sum(each.specific >= own.specific for each in random)
    return {
        "k": size,
        **asdict(own),
        "random": {field: [getattr(each, field) for each in random] for field in asdict(own)},
        "p": (1 + beyond) / (1 + draws),
    }


def _prepared(model: Any, processor: Any, rows: Sequence[Mapping[str, Any]], description: str) -> Iterable[Sample]:
    for row in tqdm(rows, desc=description, unit="row"):
        yield prepare(model, processor, row)


def _inputs(model: Any, sample: Sample) -> dict[str, Any]:
    """Return the model's arguments on its device, images in its dtype; those of text alone cannot be moved so."""
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
        for name, value in sample.inputs.items()
    }


def _answer_tokens(sample: Sample) -> NDArray[np.intp]:
    """Return the positions of all tokens that the model writes, with the ends of its turns."""
    spans = [span_tokens(sample.encoded.offsets[0], span.text_start, span.end) for span in sample.encoded.answers[0]]
    return np.concatenate([*spans, np.empty(0, np.intp)]).astype(np.intp)


def _places(samples: Sequence[Sample], *, of_expressions: bool) -> list[NDArray[np.bool_]]:
    """Return, for each sample, which of its answer tokens belong to a key expression, or which do not."""
    found = []
    for sample in samples:
        expressions = np.concatenate([*(evidence.tokens for evidence in sample.evidence), np.empty(0, np.intp)])
        found.append(np.isin(_answer_tokens(sample), expressions) == of_expressions)
    return found


@torch.inference_mode()
def _log_probabilities(model: Any, samples: Sequence[Sample]) -> list[FloatArray]:
    """Return the log-probability of each answer token of each sample."""
    found = []
    for sample in samples:
        tokens = torch.from_numpy(_answer_tokens(sample))
        logits = model(**_inputs(model, sample), use_cache=False).logits[0, tokens - 1].float()
        written = sample.inputs["input_ids"][0, tokens].to(logits.device)
        found.append(logits.log_softmax(-1).gather(1, written[:, None])[:, 0].double().cpu().numpy())
    return found


def _mean(values: Sequence[FloatArray], places: Sequence[NDArray[np.bool_]]) -> float:
    """Return the mean of the values at some places; 0 if there are none."""
    chosen = np.concatenate([*(each[which] for each, which in zip(values, places, strict=True)), np.empty(0)])
    return float(chosen.mean()) if len(chosen) else 0.0
