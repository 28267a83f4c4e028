"""Effects of sets of heads on a model's answers: log-probabilities, accuracy and reliance without them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from fivl_hf.explain.head_sets import SetName
from fivl_hf.explain.knockout import Head, How, knock_out, mean_outputs
from fivl_hf.explain.lens import LOGITS_AT_A_TIME, final_logits
from fivl_hf.explain.samples import ReadableRow, Sample, prepare_batch, readable, row_batches
from fivl_hf.files.appended import AppendedLines
from fivl_hf.images import black_out
from fivl_hf.keywords import span_tokens
from fivl_hf.models import without_adapter

__all__ = [
    "AnswerBatches",
    "Effect",
    "Reading",
    "answer_tokens",
    "effect_file",
    "effects",
    "read_answers",
    "token_log_probabilities",
]

# Bytes of encoded batches that are kept; what is beyond is encoded again for each set of heads.
_KEPT = 1 << 30


@dataclass(frozen=True)
class Reading:
    """Log-probabilities and accuracies of the gold answers under teacher forcing.

    Attributes:
        expression: mean log-probability, in nats, of the key expressions' tokens.
        other: the same of the answers' other tokens; 0 if there are none.
        text_only: the same of all tokens of the answers where the images are left out; 0 if there are none.
        accuracy: share of the key expressions of which every token is the most likely one.
        masked_accuracy: the same with the boxes of the evidence blacked out.
        n: number of these key expressions.
    """

    expression: float
    other: float
    text_only: float
    accuracy: float
    masked_accuracy: float
    n: int

    @property
    def expression_reliance(self) -> float | None:
        """(accuracy − masked accuracy) / accuracy, as the Visual Reliance Score; None where nothing is right."""
        return 1 - self.masked_accuracy / self.accuracy if self.accuracy else None


@dataclass(frozen=True)
class Effect:
    """The effect of a set of heads on the answers; log-probabilities in nats.

    Attributes:
        expression: mean drop of the key expressions' tokens.
        other: mean drop of the answers' other tokens.
        text_only: mean drop of the answers' tokens where the images are left out; its exponential is how many times
            the perplexity of text grows: damage, if it is large.
        specific: ``expression`` minus ``other``.
        accuracy, expression_reliance: of :class:`Reading`, without these heads.
    """

    expression: float
    other: float
    text_only: float
    specific: float
    accuracy: float
    expression_reliance: float | None

    @classmethod
    def between(cls, before: Reading, without: Reading) -> "Effect":
        """Return what heads do, from readings with and without them."""
        expression, other = before.expression - without.expression, before.other - without.other
        return cls(
            expression,
            other,
            before.text_only - without.text_only,
            expression - other,
            without.accuracy,
            without.expression_reliance,
        )


@dataclass(frozen=True)
class _Answers:
    """A batch of encoded conversations.

    Attributes:
        kind: "original", "masked" or "text-only".
        tokens: of each, the positions of all tokens that the model writes, with the ends of its turns.
        expressions: of each, the positions of every key expression's tokens.
    """

    kind: str
    inputs: Mapping[str, Any]
    tokens: Sequence[NDArray[np.intp]]
    expressions: Sequence[Sequence[NDArray[np.intp]]]


class AnswerBatches:
    """Rows as they are, with their evidence blacked out, and without their images, encoded batch by batch.

    Raises:
        RowError, when iterated: a row that does not fit the schema.
        ImageError, when iterated: an image that cannot be read.
    """

    def __init__(self, model: Any, processor: Any, rows: Sequence[Mapping[str, Any]], batch_size: int = 16) -> None:
        self._model, self._processor, self._rows = model, processor, rows
        self._batches = [
            (kind, numbers)
            for batch in row_batches(rows, range(len(rows)), batch_size)
            for kind in ("original", "masked", "text-only")
            if (numbers := [number for number, raw in batch if kind == "text-only" or raw.get("key_expressions")])
        ]
        self._kept: dict[int, _Answers] = {}
        self._bytes = 0

    def __iter__(self) -> Iterator[_Answers]:
        for place, (kind, numbers) in enumerate(self._batches):
            batch = self._kept.get(place)
            if batch is None:
                batch = self._encoded(kind, numbers)
                size = sum(each.nbytes for each in batch.inputs.values())
                if self._bytes + size <= _KEPT:
                    self._kept[place], self._bytes = batch, self._bytes + size
            yield batch

    def _encoded(self, kind: str, numbers: Sequence[int]) -> _Answers:
        changes = {"original": lambda row: row, "masked": _without_evidence, "text-only": _without_images}
        rows = [changes[kind](readable(self._rows[number])) for number in numbers]
        samples = prepare_batch(self._model, self._processor, rows)
        return _Answers(
            kind,
            dict(samples[0].inputs),
            [answer_tokens(sample) for sample in samples],
            [[evidence.tokens for evidence in sample.evidence if len(evidence.tokens)] for sample in samples],
        )


def _without_images(given: ReadableRow) -> ReadableRow:
    return ReadableRow(replace(given.row, images=(), sizes=(), key_expressions=(), masks=()), ())


def _without_evidence(given: ReadableRow) -> ReadableRow:
    boxes: list[list[tuple[float, ...]]] = [[] for _ in given.images]
    for expression in given.row.key_expressions:
        boxes[expression.image] += expression.boxes
    return replace(given, images=tuple(map(black_out, given.images, boxes)))


def answer_tokens(sample: Sample) -> NDArray[np.intp]:
    """Return the positions of the answers' tokens, with the marks that end their turns."""
    spans = [span_tokens(sample.offsets, span.text_start, span.end) for span in sample.answers]
    return np.concatenate([*spans, np.empty(0, np.intp)]).astype(np.intp)


@torch.inference_mode()
def read_answers(model: Any, batches: AnswerBatches) -> Reading:
    """Return log-probabilities and accuracies of the answers under teacher forcing.

    Raises:
        ValueError: no key expression's tokens are found.
    """
    model = without_adapter(model)
    sums = dict.fromkeys(("expression", "other", "text-only"), (0.0, 0))
    right: dict[str, list[bool]] = {"original": [], "masked": []}
    for batch in batches:
        for found, tokens, expressions in zip(
            token_log_probabilities(model, batch.inputs, batch.tokens), batch.tokens, batch.expressions, strict=True
        ):
            log_probabilities, first = found
            if batch.kind == "text-only":
                _add(sums, "text-only", log_probabilities)
                continue
            right[batch.kind] += [bool(first[np.isin(tokens, each)].all()) for each in expressions]
            if batch.kind == "original":
                inside = np.isin(tokens, np.concatenate([*expressions, np.empty(0, np.intp)]))
                _add(sums, "expression", log_probabilities[inside])
                _add(sums, "other", log_probabilities[~inside])
    if not right["original"]:
        raise ValueError("none of the rows to measure on has a key expression in its answers")
    expression, other, text_only = (total / count if count else 0.0 for total, count in sums.values())
    accuracy, masked_accuracy = (float(np.mean(right[kind])) for kind in ("original", "masked"))
    return Reading(expression, other, text_only, accuracy, masked_accuracy, len(right["original"]))


def _add(sums: dict[str, tuple[float, int]], name: str, values: NDArray[np.float64]) -> None:
    total, count = sums[name]
    sums[name] = total + float(values.sum()), count + len(values)


@torch.inference_mode()
def token_log_probabilities(
    model: Any, inputs: Mapping[str, Any], tokens: Sequence[NDArray[np.intp]]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Yield log-probabilities of some tokens of each conversation of a batch, and which are the most likely ones.

    Args:
        inputs: of the model's forward.
        tokens: positions (K,) in each conversation, from 1 up.

    Yields:
        (K,) float64 in nats, and (K,) bool.
    """
    inputs = _on_device(model, inputs)
    hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
    counts = [len(each) for each in tokens]
    places = torch.from_numpy(np.concatenate(tokens)).to(hidden.device)
    rows = torch.arange(len(counts), device=hidden.device).repeat_interleave(torch.tensor(counts, device=hidden.device))
    written = inputs["input_ids"][rows, places]
    values, first = [], []
    for part, ids in zip(
        hidden[rows, places - 1].split(LOGITS_AT_A_TIME), written.split(LOGITS_AT_A_TIME), strict=True
    ):
        logits = final_logits(model, part)
        values.append(logits.log_softmax(-1).gather(1, ids[:, None])[:, 0].cpu())
        first.append((logits.argmax(-1) == ids).cpu())
    ends = np.cumsum(counts)[:-1]
    yield from zip(
        np.split(torch.cat(values).double().numpy(), ends), np.split(torch.cat(first).numpy(), ends), strict=True
    )


def _on_device(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's arguments on its device, images in its dtype; those of text alone cannot be moved so."""
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
    }


def effects(
    model: Any,
    batches: AnswerBatches,
    sets: Mapping[SetName, Sequence[Head]],
    how: How = "zero",
    *,
    before: Reading | None = None,
) -> Iterator[tuple[SetName, Effect]]:
    """Measure what each of some sets of heads does, one by one.

    Args:
        sets: heads by name.
        how: see :func:`fivl_hf.explain.knockout.knock_out`.
        before: of the whole model; read again if not given.
    """
    if not sets:
        return
    before = before or read_answers(model, batches)
    means = None
    if how == "mean":
        means = mean_outputs(model, (_on_device(model, each.inputs) for each in batches if each.kind == "original"))
    for name, heads in tqdm(sets.items(), desc="Knocking out", unit="set"):
        with knock_out(model, heads, how, means=means):
            yield name, Effect.between(before, read_answers(model, batches))


def _read_effect(raw: Mapping[str, Any]) -> tuple[SetName, Effect]:
    effect = Effect(**raw["effect"])
    if not all(isinstance(value, float | int | None) for value in asdict(effect).values()):
        raise ValueError("an effect is no number")
    return (str(raw["set"]), int(raw["k"]), int(raw["draw"])), effect


def effect_file(path: Path) -> AppendedLines[tuple[SetName, Effect]]:
    """Return the file of the effects of sets of heads, which need not exist yet; iterating raises ValueError for
    another file."""
    return AppendedLines(
        path,
        "the effect of a set of heads",
        read=_read_effect,
        write=lambda entry: {**dict(zip(("set", "k", "draw"), entry[0], strict=True)), "effect": asdict(entry[1])},
    )
