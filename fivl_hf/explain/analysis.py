"""Running a model over rows: which heads look at the evidence, and what its image positions predict."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from fivl_hf.explain.alignment import AlignmentMap, spearman
from fivl_hf.explain.probe import record_attention
from fivl_hf.explain.samples import Evidence, Sample, prepare
from fivl_hf.explain.segmentation import segmentation_scores
from fivl_hf.geometry import TILES, WHOLE
from fivl_hf.masks import coverage

__all__ = ["Explanation", "explain", "token_attention", "vision_predictions"]


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` measures over a set of rows.

    Attributes:
        alignment: mean correlation of each head with the expressions' own masks.
        control: the same with masks of other pictures; near 0 unless heads simply like the places masks tend to be.
        by_scale: the alignment with the tokens of one scale alone, "whole" and "tiles", over the samples whose images
            are seen at both; empty without such.
        segmentation: see :func:`fivl_hf.explain.segmentation.segmentation_scores`; without samples for models whose
            visual tokens do not stand in the sequence.
        skipped: key expressions left out, by reason.
    """

    alignment: AlignmentMap
    control: AlignmentMap
    by_scale: dict[str, AlignmentMap]
    segmentation: dict[str, Any]
    skipped: dict[str, int]


def explain(
    model: Any, processor: Any, rows: Iterable[Mapping[str, Any]], *, description: str = "Explaining"
) -> Explanation:
    """Head alignment (with its control) and segmentation over all key expressions of the rows.

    Args:
        rows: raw rows with evidence; each is encoded with its own answers (teacher forcing).
    """
    found = _Collected()
    was_training = model.training
    model.eval()
    try:
        for raw in tqdm(rows, desc=description, unit="row"):
            sample = prepare(model, processor, raw)
            attention, predicted = _observe(model, sample, [evidence.tokens for evidence in sample.evidence])
            found.add(sample, attention, predicted)
    finally:
        model.train(was_training)
    return found.explanation()


class _Collected:
    """What :func:`explain` gathers, row by row."""

    def __init__(self) -> None:
        self.alignment, self.control = AlignmentMap(), AlignmentMap()
        self.by_scale: dict[str, AlignmentMap] = {}
        self.skipped: Counter[str] = Counter()
        self.predicted: list[NDArray[np.int64]] = []
        self.references: list[NDArray[np.bool_]] = []
        self.keywords: list[int] = []
        # First evidence of the last two different pictures, for the control: neighbouring rows may share a picture.
        self.foreign: dict[bytes, Evidence] = {}

    def add(
        self, sample: Sample, attention: Sequence[NDArray[np.float32] | None], predicted: NDArray[np.int64] | None
    ) -> None:
        pictures = b"".join(picture.tobytes() for picture in sample.pictures)
        key = hashlib.sha256(pictures).digest()
        other = next((evidence for k, evidence in reversed(self.foreign.items()) if k != key), None)
        for evidence, heads in zip(sample.evidence, attention, strict=True):
            sees = np.isfinite(evidence.coverage)
            if heads is None:
                self.skipped["tokens not found"] += 1
            else:
                self.alignment.add(spearman(heads[..., sees], evidence.coverage[sees]))
                for scale in {TILES, WHOLE} & set(sample.scales[sees]):
                    chosen = sees & (sample.scales == scale)
                    found = self.by_scale.setdefault(scale, AlignmentMap())
                    found.add(spearman(heads[..., chosen], evidence.coverage[chosen]))
                if other is None:
                    self.skipped["no other picture for the control"] += 1
                else:
                    cover = _foreign_coverage(other, sample, evidence)
                    self.control.add(spearman(heads[..., sees], cover[sees]))
            if predicted is None:
                self.skipped["no visual tokens in the sequence to segment by"] += 1
            elif evidence.keyword_id is None:
                self.skipped["no keyword"] += 1
            else:
                self.predicted.append(predicted[sees])
                self.references.append(evidence.coverage[sees] > 0)
                self.keywords.append(evidence.keyword_id)
        if sample.evidence and key not in self.foreign:
            self.foreign = dict([*self.foreign.items(), (key, sample.evidence[0])][-2:])

    def explanation(self) -> Explanation:
        segmentation = segmentation_scores(self.predicted, self.references, self.keywords)
        return Explanation(self.alignment, self.control, self.by_scale, segmentation, dict(self.skipped))


def token_attention(model: Any, sample: Sample, spans: Sequence[NDArray[np.intp]]) -> list[NDArray[np.float32] | None]:
    """Attention to the visual tokens while chosen tokens are written, in one teacher-forced pass.

    Args:
        spans: groups of token positions, such as an expression's.

    Returns:
        Per group (L, H, N) float32: the mean over its tokens of the rows that *produce* them (position t - 1 for
        token t); None for an empty group.
    """
    return _observe(model, sample, spans)[0]


def vision_predictions(model: Any, sample: Sample) -> NDArray[np.int64] | None:
    """(N,) the token id that each visual token predicts: argmax of the language-model head at its position.

    None for a model whose visual tokens do not stand in the sequence.
    """
    return _observe(model, sample, [])[1]


@torch.inference_mode()
def _observe(
    model: Any, sample: Sample, spans: Sequence[NDArray[np.intp]]
) -> tuple[list[NDArray[np.float32] | None], NDArray[np.int64] | None]:
    """:func:`token_attention` and :func:`vision_predictions` of one pass."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model  # an adapter's layers are inside
    rows = np.unique(np.concatenate([np.zeros(1, np.int64), *(span - 1 for span in spans)])).astype(np.int64)
    positions = sample.image_positions.to(model.device)
    with record_attention(model, torch.from_numpy(rows)[None].to(model.device), positions[None]) as recorded:
        outputs = model.base_model(**sample.inputs.to(model.device, model.dtype), use_cache=False)
    predicted = None
    if sample.in_sequence:
        hidden = outputs.last_hidden_state[0, positions]
        predicted = model.get_output_embeddings()(hidden).argmax(dim=-1).cpu().numpy()
    attention = recorded.stacked()[0].float().cpu().numpy()
    chosen = [attention[:, :, np.searchsorted(rows, span - 1)].mean(axis=2) if len(span) else None for span in spans]
    return chosen, predicted


def _foreign_coverage(other: Evidence, sample: Sample, evidence: Evidence) -> NDArray[np.float64]:
    """Another picture's mask, stretched over this one: its coverage of this sample's visual tokens."""
    width, height = sample.pictures[evidence.expression.image].size
    scale = np.array([other.mask.shape[1] / width, other.mask.shape[0] / height] * 2)
    return coverage(other.mask[None], sample.boxes * scale)[0]
