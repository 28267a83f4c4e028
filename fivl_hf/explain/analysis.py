"""Running a model over rows: which heads look at the evidence, and what its image positions predict."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from fivl_hf.explain.alignment import AlignmentMap, top_heads
from fivl_hf.explain.lens import DepthCurves, KeywordDepth
from fivl_hf.explain.measures import chance
from fivl_hf.explain.other_images import OtherImages, image_groups
from fivl_hf.explain.own_answers import with_own_answers
from fivl_hf.explain.samples import prepare_batch, readable, row_batches
from fivl_hf.explain.scores import ExpressionScores, RowScores
from fivl_hf.explain.scoring import NO_TOKEN, score_batch
from fivl_hf.explain.segmentation import SegmentScore, mean_segmentation
from fivl_hf.explain.selection import HeadSelection, image_halves, selection_by
from fivl_hf.images import ImageError
from fivl_hf.schema import RowError

__all__ = ["BATCH_SIZE", "Explanation", "ProtocolName", "explain", "explain_rows", "gather"]

ProtocolName = Literal["default", "paper"]

BATCH_SIZE = 16


@dataclass
class Explanation:
    """The measurements of a set of rows.

    Attributes:
        alignment: mean correlation of each head with the expressions' own masks.
        control: the same with masks of other images; near 0 unless heads simply like the places masks tend to be.
        by_scale: the alignment with the tokens of one scale alone, "whole" and "tiles", over the samples whose images
            are seen at both; empty without such.
        choosing, held_out, held_out_control: alignment on one half of the images, alignment and control on the other:
            the best of many heads is overrated on the rows it was chosen on.
        selections: of each measure, the heads chosen on some images and measured on others.
        without_sinks: heads chosen by AUROC where visual sink tokens are left out.
        with_sinks: key expressions in whose images there are any.
        covered, compared: sum of the shares of the visual tokens that the masks cover, and how many masks those are:
            what the measures' chance levels depend on.
        lens: what patches know of their keywords, layer by layer.
        segments: see :func:`fivl_hf.explain.segmentation.mean_segmentation`; none of models whose visual tokens do not
            stand in the sequence.
        skipped: key expressions left out, by reason.
        problems: of rows that could not be explained, why.
    """

    alignment: AlignmentMap = field(default_factory=AlignmentMap)
    control: AlignmentMap = field(default_factory=AlignmentMap)
    by_scale: dict[str, AlignmentMap] = field(default_factory=dict)
    choosing: AlignmentMap = field(default_factory=AlignmentMap)
    held_out: AlignmentMap = field(default_factory=AlignmentMap)
    held_out_control: AlignmentMap = field(default_factory=AlignmentMap)
    selections: dict[str, HeadSelection] = field(default_factory=dict)
    without_sinks: HeadSelection = field(default_factory=lambda: HeadSelection(()))
    with_sinks: int = 0
    covered: float = 0.0
    compared: int = 0
    lens: DepthCurves = field(default_factory=DepthCurves)
    segments: list[SegmentScore | None] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def measures(self) -> dict[str, Any]:
        """Of each measure, what :meth:`fivl_hf.explain.selection.HeadSelection.summary` returns, and its ``chance``.

        AUROC has ``without_sinks``, the same ``held_out`` without visual sink tokens, if there are any.
        """
        shares = [self.covered / self.compared] if self.compared else []
        summaries = {
            name: {**selection.summary(), "chance": chance(name, shares)}
            for name, selection in sorted(self.selections.items())
        }
        if self.with_sinks:
            summaries["auroc"]["without_sinks"] = {
                **self.without_sinks.summary()["held_out"],
                "expressions_with_sinks": self.with_sinks,
            }
        return summaries

    @property
    def segmentation(self) -> dict[str, Any]:
        """The segmentation's means."""
        return mean_segmentation(self.segments)

    def best_heads(self, count: int = 5, chosen_on: "Explanation | None" = None) -> list[dict[str, Any]]:
        """Return the heads that are best on one half of the images, with their score and control on the other.

        Args:
            chosen_on: what other rows gave, such as a validation split's: the heads are chosen on all of it and
                measured on all of this.

        Returns:
            ``{"layer", "head", "score", "control", "chosen_by"}``, best by ``chosen_by`` (the score they were chosen
            by) first; empty where one half is without scores, as with a single image.
        """
        choosing = chosen_on.alignment if chosen_on else self.choosing
        held_out = (self.alignment if chosen_on else self.held_out).mean()
        control = (self.control if chosen_on else self.held_out_control).mean()
        if not held_out.size:
            return []
        heads = []
        for head in top_heads(choosing.mean(), count):
            place = head["layer"], head["head"]
            score, against = held_out[place], control[place] if control.size else np.nan
            heads.append(
                {
                    "layer": head["layer"],
                    "head": head["head"],
                    "score": None if np.isnan(score) else float(score),
                    "control": None if np.isnan(against) else float(against),
                    "chosen_by": head["score"],
                }
            )
        return heads


def explain(
    model: Any,
    processor: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    seed: int = 0,
    description: str = "Explaining",
    **options: Any,
) -> Explanation:
    """Head alignment (with its control) and segmentation over all key expressions of the rows.

    Args:
        rows: raw rows with evidence; each is encoded with its own answers (teacher forcing).
        seed: of the halves of the images. Scores of all rows are held in memory;
            :func:`fivl_hf.explain.runner.write_explanation` keeps them on disk.
        options: ``batch_size``, ``without_sinks`` and ``protocol`` of :func:`explain_rows`.

    Raises:
        RowError: a row that does not fit the schema.
        ImageError: an image that cannot be read.
    """
    scores = list(explain_rows(model, processor, rows, description=description, **options))
    return gather(scores, image_halves((row.image for row in scores if row.is_measured), seed))


def explain_rows(
    model: Any,
    processor: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    batch_size: int = BATCH_SIZE,
    groups: Sequence[str] | None = None,
    known: Collection[str] = (),
    share: tuple[int, int] = (0, 1),
    keep_going: bool = False,
    without_sinks: bool = False,
    protocol: ProtocolName = "default",
    description: str = "Explaining",
) -> Iterator[RowScores]:
    """Explain rows in batches; what a row gives depends on it and on the next row about another image alone.

    Rows of similar length are put together, so that they do not come in their order.

    Args:
        rows: as for :func:`explain`.
        batch_size: rows at a time.
        groups: of all rows (:func:`fivl_hf.explain.other_images.image_groups`); computed if not given.
        known: ids of rows that are passed over.
        share: number of this process and number of processes: each explains its share of the rows.
        keep_going: a row that does not fit the schema gives its problem instead of an error.
        without_sinks: leave visual sink tokens (:mod:`fivl_hf.explain.sinks`) out of the attention that is measured.
        protocol: "paper" takes what the model itself answers (:mod:`fivl_hf.explain.own_answers`), and measures token
            by token, then averages; "default" averages the attention of an expression's tokens.

    Raises:
        RowError, ImageError: as for :func:`explain`, unless it keeps going.
    """
    indexed: Sequence[Mapping[str, Any]] = rows if hasattr(rows, "__getitem__") else list(rows)  # type: ignore[assignment]
    groups = image_groups(indexed) if groups is None else groups
    others = OtherImages(indexed, groups, processor.tokenizer)
    process, processes = share
    pending = [number for number, row in enumerate(indexed) if row.get("id") not in known][process::processes]
    was_training = model.training
    model.eval()
    try:
        with tqdm(total=len(pending), desc=description, unit="row", disable=process > 0) as progress:
            for batch in row_batches(indexed, pending, batch_size):
                readable_rows, numbers = [], []
                for number, raw in batch:
                    try:
                        readable_rows.append(readable(raw))
                        numbers.append(number)
                    except (RowError, ImageError) as error:
                        if not keep_going:
                            raise
                        yield RowScores(str(raw.get("id")), problem=str(error))
                if readable_rows:
                    if protocol == "paper":
                        readable_rows = with_own_answers(model, processor, readable_rows)
                    yield from score_batch(
                        model,
                        prepare_batch(model, processor, readable_rows),
                        [groups[number] for number in numbers],
                        [others.of(number) for number in numbers],
                        without_sinks=without_sinks,
                        by_token=protocol == "paper",
                    )
                progress.update(len(batch))
    finally:
        model.train(was_training)


def gather(rows: Iterable[RowScores], choosing: Collection[str]) -> Explanation:
    """Put the scores of rows together.

    Args:
        choosing: images that heads are chosen on (:func:`fivl_hf.explain.selection.image_halves`).
        rows: may come from a file; only sums are kept, but for the segmentation's three numbers per expression.
    """
    explanation = Explanation(without_sinks=HeadSelection(choosing))
    for row in rows:
        if row.problem:
            explanation.problems[row.id] = row.problem
        for scores in row.expressions:
            _add(explanation, scores, row.image, choosing)
    return explanation


def _add(explanation: Explanation, scores: ExpressionScores, image: str, choosing: Collection[str]) -> None:
    is_choosing = image in choosing
    explanation.skipped.update(scores.skipped)
    if scores.alignment is not None:
        explanation.alignment.add(scores.alignment)
        (explanation.choosing if is_choosing else explanation.held_out).add(scores.alignment)
    if scores.control is not None:
        explanation.control.add(scores.control)
        if not is_choosing:
            explanation.held_out_control.add(scores.control)
    for name, values in scores.measures.items():
        if name not in explanation.selections:
            explanation.selections[name] = selection_by(name, choosing)
        explanation.selections[name].add(image, values, scores.controls.get(name))
    own, control = scores.without_sinks
    if own is not None:
        explanation.with_sinks += bool(scores.auroc_without_sinks)
        explanation.without_sinks.add(image, own, control)
    if scores.depth:
        explanation.lens.add(KeywordDepth(**scores.depth))
    if scores.mask_share is not None:
        explanation.covered += scores.mask_share
        explanation.compared += 1
    for scale, found in scores.by_scale.items():
        explanation.by_scale.setdefault(scale, AlignmentMap()).add(found)
    if scores.segment is not None:
        explanation.segments.append(scores.segment)
    elif NO_TOKEN in scores.skipped:
        explanation.segments.append(None)
