"""Running a model over rows: which heads look at the evidence, and what its image positions predict."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from fivl_hf.explain.alignment import AlignmentMap, top_heads
from fivl_hf.explain.lens import DepthCurves, KeywordDepth, keyword_depth
from fivl_hf.explain.measures import LOWER_IS_BETTER, MEASURES, chance, measured
from fivl_hf.explain.observation import Observation, observe
from fivl_hf.explain.own_answers import with_own_answers
from fivl_hf.explain.samples import Evidence, Sample, prepare
from fivl_hf.explain.scores import ExpressionScores, RowScores
from fivl_hf.explain.segmentation import SegmentScore, mean_segmentation, segment_score
from fivl_hf.explain.selection import HeadSelection, chooses
from fivl_hf.geometry import TILES, WHOLE
from fivl_hf.images import ImageError, encoded_bytes
from fivl_hf.keywords import head_noun, word_token_id
from fivl_hf.masks import BoolArray, FloatArray, coverage, decode_mask
from fivl_hf.schema import RowError

__all__ = ["Explanation", "ProtocolName", "explain", "explain_rows", "gather", "image_key"]

ProtocolName = Literal["default", "paper"]

# Rows that a search for another image looks at: a dataset's questions about one image are neighbours.
_NEIGHBOURS = 1000
_NO_TOKEN = "its mask covers no token"


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
    covered: float = 0.0
    compared: int = 0
    lens: DepthCurves = field(default_factory=DepthCurves)
    segments: list[SegmentScore | None] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def measures(self) -> dict[str, Any]:
        """Of each measure, what :meth:`fivl_hf.explain.selection.HeadSelection.summary` returns, and its ``chance``."""
        shares = [self.covered / self.compared] if self.compared else []
        return {
            name: {**selection.summary(), "chance": chance(name, shares)}
            for name, selection in sorted(self.selections.items())
        }

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
    without_sinks: bool = False,
    protocol: ProtocolName = "default",
    description: str = "Explaining",
) -> Explanation:
    """Head alignment (with its control) and segmentation over all key expressions of the rows.

    Args:
        rows: raw rows with evidence; each is encoded with its own answers (teacher forcing).
        without_sinks: leave visual sink tokens (:mod:`fivl_hf.explain.sinks`) out of the attention that is measured.
        protocol: "paper" takes what the model itself answers (:mod:`fivl_hf.explain.own_answers`), and measures token
            by token, then averages; "default" averages the attention of an expression's tokens.

    Raises:
        RowError: a row that does not fit the schema.
    """
    how: dict[str, Any] = {"without_sinks": without_sinks, "protocol": protocol}
    return gather(explain_rows(model, processor, rows, **how, description=description))


def explain_rows(
    model: Any,
    processor: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    known: Collection[str] = (),
    keep_going: bool = False,
    without_sinks: bool = False,
    protocol: ProtocolName = "default",
    description: str = "Explaining",
) -> Iterator[RowScores]:
    """Explain row by row; what a row gives depends on it and on the next row about another image alone.

    Args:
        rows: as for :func:`explain`.
        known: ids of rows that are passed over.
        without_sinks, protocol: as for :func:`explain`.
        keep_going: a row that does not fit the schema gives its problem instead of an error.
    """
    indexed: Sequence[Mapping[str, Any]] = rows if hasattr(rows, "__getitem__") else list(rows)  # type: ignore[assignment]
    was_training = model.training
    model.eval()
    try:
        for number, raw in enumerate(tqdm(indexed, desc=description, unit="row")):
            if raw.get("id") in known:
                continue
            try:
                answered = with_own_answers(model, processor, raw) if protocol == "paper" and raw.get("images") else raw
                scores = _row_scores(
                    model,
                    processor,
                    answered,
                    indexed,
                    number,
                    without_sinks=without_sinks,
                    by_token=protocol == "paper",
                )
            except (RowError, ImageError) as error:
                if not keep_going:
                    raise
                scores = RowScores(str(raw.get("id")), problem=str(error))
            yield scores
    finally:
        model.train(was_training)


def gather(rows: Iterable[RowScores]) -> Explanation:
    """Put the scores of rows together.

    Args:
        rows: may come from a file; only sums are kept, but for the segmentation's three numbers per expression.
    """
    explanation = Explanation()
    for row in rows:
        if row.problem:
            explanation.problems[row.id] = row.problem
        for scores in row.expressions:
            _add(explanation, scores, row.image)
    return explanation


def _add(explanation: Explanation, scores: ExpressionScores, image: str) -> None:
    is_choosing = chooses(image)
    explanation.skipped.update(scores.skipped)
    if scores.alignment is not None:
        explanation.alignment.add(scores.alignment)
        (explanation.choosing if is_choosing else explanation.held_out).add(scores.alignment)
    if scores.control is not None:
        explanation.control.add(scores.control)
        if not is_choosing:
            explanation.held_out_control.add(scores.control)
    spearman = {} if scores.alignment is None else {"spearman": scores.alignment}
    for name, found in {**spearman, **scores.measures}.items():
        control = scores.control if name == "spearman" else scores.controls.get(name)
        if name not in explanation.selections:
            explanation.selections[name] = HeadSelection(higher_is_better=name not in LOWER_IS_BETTER)
        explanation.selections[name].add(image, found, control)
    if scores.depth:
        explanation.lens.add(KeywordDepth(**scores.depth))
    if scores.share is not None:
        explanation.covered += scores.share
        explanation.compared += 1
    for scale, found in scores.by_scale.items():
        explanation.by_scale.setdefault(scale, AlignmentMap()).add(found)
    if scores.segment is not None:
        explanation.segments.append(scores.segment)
    elif _NO_TOKEN in scores.skipped:
        explanation.segments.append(None)


def _row_scores(
    model: Any,
    processor: Any,
    raw: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    number: int,
    *,
    without_sinks: bool,
    by_token: bool,
) -> RowScores:
    sample = prepare(model, processor, raw)
    image = image_key(raw)
    other = _foreign(rows, number, image) if sample.evidence else None
    foreign = _Foreign(
        None if other is None else decode_mask(other["masks"][0]), _foreign_keyword(other, processor.tokenizer)
    )
    words = {evidence.keyword_id for evidence in sample.evidence} | {foreign.keyword_id}
    keywords = sorted(word for word in words if word is not None)
    spans = [
        list(evidence.tokens[:, None]) if by_token else [evidence.tokens] * bool(len(evidence.tokens))
        for evidence in sample.evidence
    ]
    seen = observe(model, sample, [span for each in spans for span in each], keywords)
    attention = iter(seen.attention)
    scores = tuple(
        _expression_scores(
            sample, evidence, list(islice(attention, len(each))), seen, foreign, keywords, without_sinks=without_sinks
        )
        for evidence, each in zip(sample.evidence, spans, strict=True)
    )
    return RowScores(sample.id, image, scores)


@dataclass(frozen=True)
class _Foreign:
    """Another image's mask and keyword, for the controls."""

    mask: BoolArray | None
    keyword_id: int | None


def _expression_scores(
    sample: Sample,
    evidence: Evidence,
    heads: Sequence[NDArray[np.float32] | None],
    seen: Observation,
    foreign: _Foreign,
    keywords: Sequence[int],
    *,
    without_sinks: bool,
) -> ExpressionScores:
    everywhere = np.isfinite(evidence.coverage)
    sees = everywhere & ~seen.sinks if without_sinks else everywhere
    skipped = []
    own: dict[str, FloatArray] = {}
    control: dict[str, FloatArray] = {}
    by_scale = {}
    if not heads:
        skipped.append("tokens not found")
    else:
        own = _mean_measures(heads, sees, evidence.coverage[sees], list(MEASURES))
        for scale in {TILES, WHOLE} & set(sample.scales[sees]):
            chosen = sees & (sample.scales == scale)
            by_scale[scale] = _mean_measures(heads, chosen, evidence.coverage[chosen], ["spearman"])["spearman"]
        if foreign.mask is None:
            skipped.append("no other image for the control")
        else:
            other = _foreign_coverage(foreign.mask, sample, evidence)[sees]
            control = _mean_measures(heads, sees, other, list(MEASURES))
    segment, depth = None, None
    if seen.predicted is None:
        skipped.append("no visual tokens in the sequence to segment by")
    elif evidence.keyword_id is None:
        skipped.append("no keyword")
    else:
        segment = segment_score(seen.predicted[everywhere], evidence.coverage[everywhere], evidence.keyword_id)
        if segment is None:
            skipped.append(_NO_TOKEN)
        if seen.lens is not None:
            other_word = (
                None if foreign.keyword_id in (None, evidence.keyword_id) else keywords.index(foreign.keyword_id)
            )
            depth = keyword_depth(seen.lens, keywords.index(evidence.keyword_id), other_word, evidence.coverage)
    return ExpressionScores(
        own.pop("spearman", None),
        control.pop("spearman", None),
        by_scale,
        measures=own,
        controls=control,
        share=None if not heads else float(evidence.coverage[sees].mean()),
        depth={} if depth is None else dict(vars(depth)),
        segment=segment,
        skipped=tuple(skipped),
    )


def _mean_measures(
    attention: Sequence[NDArray[np.float32] | None], chosen: BoolArray, coverage: FloatArray, names: Sequence[str]
) -> dict[str, FloatArray]:
    """Return measures of some of the visual tokens, the mean over attention maps."""
    each = [measured(heads[..., chosen], coverage, names) for heads in attention if heads is not None]
    return {name: np.asarray(np.mean([found[name] for found in each], axis=0)) for name in names}


def image_key(raw: Mapping[str, Any]) -> str:
    """Return a digest of a row's images."""
    return hashlib.sha256(b"".join(encoded_bytes(image) for image in raw["images"])).hexdigest()[:16]


def _foreign(rows: Sequence[Mapping[str, Any]], number: int, image: str) -> Mapping[str, Any] | None:
    """Return the next row with evidence (after the last, the first) that is about another image, if any."""
    count = len(rows)
    for step in range(1, min(count, _NEIGHBOURS)):
        other = rows[(number + step) % count]
        try:
            if other.get("masks") and image_key(other) != image:
                return other
        except ImageError:
            continue  # told when it is that row's turn
    return None


def _foreign_keyword(foreign: Mapping[str, Any] | None, tokenizer: Any) -> int | None:
    """Return the token of the keyword of a row's first expression."""
    if foreign is None:
        return None
    first = foreign["key_expressions"][0]
    head = head_noun(first["text"], first["keywords"])
    return word_token_id(tokenizer, head) if head else None


def _foreign_coverage(mask: BoolArray, sample: Sample, evidence: Evidence) -> NDArray[np.float64]:
    """Return another image's mask, stretched over this one: its coverage of this sample's visual tokens."""
    width, height = sample.images[evidence.expression.image].size
    scale = np.array([mask.shape[1] / width, mask.shape[0] / height] * 2)
    return coverage(mask[None], sample.boxes * scale)[0]
