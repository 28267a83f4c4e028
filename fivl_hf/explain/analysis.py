"""Running a model over rows: which heads look at the evidence, and what its image positions predict."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from fivl_hf.explain.alignment import AlignmentMap, spearman
from fivl_hf.explain.probe import record_attention
from fivl_hf.explain.samples import Evidence, Sample, prepare
from fivl_hf.explain.segmentation import segmentation_scores
from fivl_hf.masks import coverage

__all__ = ["Explanation", "explain", "expression_attention", "token_attention", "vision_predictions"]


@dataclass
class Explanation:
    """What :func:`explain` measures over a set of rows.

    Attributes:
        alignment: mean correlation of each head with the expressions' own masks.
        control: the same with masks of other pictures; near 0 unless heads simply like the places masks tend to be.
        segmentation: see :func:`fivl_hf.explain.segmentation.segmentation_scores`.
        skipped: key expressions left out, by reason.
    """

    alignment: AlignmentMap = field(default_factory=AlignmentMap)
    control: AlignmentMap = field(default_factory=AlignmentMap)
    segmentation: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)


def explain(
    model: Any, processor: Any, rows: Iterable[Mapping[str, Any]], *, description: str = "Explaining"
) -> Explanation:
    """Head alignment (with its control) and segmentation over all key expressions of the rows.

    Args:
        rows: raw rows with evidence; each is encoded with its own answers (teacher forcing).
    """
    result = Explanation()
    predicted: list[NDArray[np.int64]] = []
    references: list[NDArray[np.bool_]] = []
    keywords: list[int] = []
    other: Evidence | None = None
    was_training = model.training
    model.eval()
    for raw in tqdm(rows, desc=description, unit="row"):
        sample = prepare(model, processor, raw)
        attention = expression_attention(model, sample)
        tokens = vision_predictions(model, sample)
        for k, evidence in enumerate(sample.evidence):
            sees = np.isfinite(evidence.coverage)
            heads = attention[k]
            if heads is None:
                result.skipped["tokens not found"] = result.skipped.get("tokens not found", 0) + 1
            else:
                result.alignment.add(spearman(heads[..., sees], evidence.coverage[sees]))
                if other is not None:
                    foreign = _foreign_coverage(other, sample, evidence)
                    result.control.add(spearman(heads[..., sees], foreign[sees]))
            if evidence.keyword_id is not None:
                predicted.append(tokens[sees])
                references.append(evidence.coverage[sees] > 0)
                keywords.append(evidence.keyword_id)
            else:
                result.skipped["no keyword"] = result.skipped.get("no keyword", 0) + 1
        other = sample.evidence[0] if sample.evidence else other
    model.train(was_training)
    result.segmentation = segmentation_scores(predicted, references, keywords)
    return result


def expression_attention(model: Any, sample: Sample) -> list[NDArray[np.float32] | None]:
    """Attention while each key expression is written, (L, H, N) each; see :func:`token_attention`."""
    return token_attention(model, sample, [evidence.tokens for evidence in sample.evidence])


@torch.inference_mode()
def token_attention(model: Any, sample: Sample, spans: Sequence[NDArray[np.intp]]) -> list[NDArray[np.float32] | None]:
    """Attention to the visual tokens while chosen tokens are written, in one teacher-forced pass.

    Args:
        spans: groups of token positions, such as an expression's.

    Returns:
        Per group (L, H, N) float32: the mean over its tokens of the rows that *produce* them (position t - 1 for
        token t); None for an empty group.
    """
    rows = np.unique(np.concatenate([np.zeros(1, np.int64), *(span - 1 for span in spans)])).astype(np.int64)
    wanted = torch.from_numpy(rows)[None].to(model.device)
    with record_attention(model, wanted, sample.image_positions[None].to(model.device)) as recorded:
        model.base_model(**sample.inputs.to(model.device, model.dtype), use_cache=False)
    attention = recorded.stacked()[0].float().cpu().numpy()
    return [attention[:, :, np.searchsorted(rows, span - 1)].mean(axis=2) if len(span) else None for span in spans]


@torch.inference_mode()
def vision_predictions(model: Any, sample: Sample) -> NDArray[np.int64]:
    """(N,) the token id that each visual token predicts: argmax of the language-model head at its position."""
    hidden = model.base_model(**sample.inputs.to(model.device, model.dtype), use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[0, sample.image_positions.to(hidden.device)])
    return logits.argmax(dim=-1).cpu().numpy()


def _foreign_coverage(other: Evidence, sample: Sample, evidence: Evidence) -> NDArray[np.float64]:
    """Another picture's mask, stretched over this one: its coverage of this sample's visual tokens."""
    width, height = sample.pictures[evidence.expression.image].size
    scale = np.array([other.mask.shape[1] / width, other.mask.shape[0] / height] * 2)
    return coverage(other.mask[None], sample.boxes * scale)[0]
