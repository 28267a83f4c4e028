"""What one teacher-forced pass shows: attention to the image, predictions of its tokens, and the logit lens.

Shapes: L layers, H heads, N visual tokens.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fivl_hf.explain.lens import Lens, reading_head
from fivl_hf.explain.probe import record_attention
from fivl_hf.explain.samples import Sample
from fivl_hf.explain.sinks import LAYER, visual_sinks
from fivl_hf.models import without_adapter

__all__ = ["Observation", "observe", "token_attention", "vision_predictions"]


@dataclass(frozen=True)
class Observation:
    """A pass over one sample.

    Attributes:
        attention: of each group of tokens, (L, H, N) float32: the mean over its tokens of the rows that *produce* them
            (position t - 1 for token t); None for an empty group.
        predicted: (N,) the token id that each visual token predicts; None for a model whose visual tokens do not stand
            in the sequence.
        lens: of some keywords; None without any, and as ``predicted``.
        sinks: (N,) which visual tokens are sinks (:mod:`fivl_hf.explain.sinks`); none that stand outside the sequence.
    """

    attention: list[NDArray[np.float32] | None]
    predicted: NDArray[np.int64] | None
    lens: Lens | None
    sinks: NDArray[np.bool_]


def token_attention(model: Any, sample: Sample, spans: Sequence[NDArray[np.intp]]) -> list[NDArray[np.float32] | None]:
    """Return attention to the visual tokens while chosen tokens are written; see :class:`Observation`.

    Args:
        spans: groups of token positions, such as an expression's.
    """
    return observe(model, sample, spans).attention


def vision_predictions(model: Any, sample: Sample) -> NDArray[np.int64] | None:
    """(N,) the token id that each visual token predicts: argmax of the language-model head at its position."""
    return observe(model, sample, []).predicted


@torch.inference_mode()
def observe(
    model: Any, sample: Sample, spans: Sequence[NDArray[np.intp]], keyword_ids: Sequence[int] = ()
) -> Observation:
    """Run a model over a sample once.

    Args:
        model: a transformers vision-language model, or an adapter of one.
        spans: groups of token positions whose attention is wanted.
        keyword_ids: of the lens.
    """
    model = without_adapter(model)
    rows = np.unique(np.concatenate([np.zeros(1, np.int64), *(span - 1 for span in spans)])).astype(np.int64)
    positions = sample.image_positions.to(model.device)
    layers = getattr(model.get_decoder(), "layers", None)
    early: list[torch.Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        early.append((output if isinstance(output, torch.Tensor) else output[0])[0])

    with ExitStack() as opened:
        if layers is not None:
            opened.callback(layers[min(LAYER, len(layers)) - 1].register_forward_hook(keep).remove)
        recorded = opened.enter_context(
            record_attention(model, torch.from_numpy(rows)[None].to(model.device), positions[None])
        )
        lens = (
            opened.enter_context(reading_head(model, positions, keyword_ids))
            if keyword_ids and sample.in_sequence
            else None
        )
        outputs = model.base_model(**sample.inputs.to(model.device, model.dtype), use_cache=False)
    predicted = None
    if sample.in_sequence:
        hidden = outputs.last_hidden_state[0, positions]
        predicted = model.get_output_embeddings()(hidden).argmax(dim=-1).cpu().numpy()
    attention = recorded.stacked()[0].float().cpu().numpy()
    chosen = [attention[:, :, np.searchsorted(rows, span - 1)].mean(axis=2) if len(span) else None for span in spans]
    sinks = np.zeros(len(positions), dtype=bool)
    if sample.in_sequence and early:
        sinks = visual_sinks(early[0], positions).cpu().numpy()
    return Observation(chosen, predicted, lens() if lens else None, sinks)
