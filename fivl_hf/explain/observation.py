"""One teacher-forced pass over a batch: attention to the image, predictions of its tokens, and the logit lens.

Shapes: L layers, H heads, N visual tokens.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fivl_hf.explain.lens import Lens, recorded_lens
from fivl_hf.explain.probe import record_attention
from fivl_hf.explain.samples import Sample
from fivl_hf.explain.sinks import SINK_LAYER, visual_sinks
from fivl_hf.models import without_adapter

__all__ = ["Observation", "Wanted", "observe", "token_attention", "vision_predictions"]


@dataclass(frozen=True)
class Observation:
    """Attention, predictions, lens and sinks of one sample.

    Attributes:
        attention: of each group of tokens, (L, H, N) float32 on the model's device: the mean over its tokens of the
            rows that *produce* them (position t - 1 for token t); None for an empty group.
        predicted: (N,) the token id that each visual token predicts; None for a model whose visual tokens are not in
            the sequence (cross-attention).
        lens: the logit lens of the wanted keywords; None if none were wanted, or if ``predicted`` is None.
        sinks: (N,) which visual tokens are sinks (:mod:`fivl_hf.explain.sinks`); all False where they are not in the
            sequence.
    """

    attention: list[torch.Tensor | None]
    predicted: NDArray[np.int64] | None
    lens: Lens | None
    sinks: NDArray[np.bool_]


@dataclass(frozen=True)
class Wanted:
    """Token groups and keywords of a sample to observe.

    Attributes:
        spans: groups of token positions whose attention is wanted, such as an expression's.
        keyword_ids: of the lens.
    """

    spans: Sequence[NDArray[np.intp]] = ()
    keyword_ids: Sequence[int] = ()


def token_attention(model: Any, sample: Sample, spans: Sequence[NDArray[np.intp]]) -> list[NDArray[np.float32] | None]:
    """Return attention (L, H, N) to the visual tokens while chosen tokens are written; see :class:`Observation`.

    Args:
        spans: groups of token positions, such as an expression's.
    """
    (seen,) = observe(model, [sample], [Wanted(spans)])
    return [None if each is None else each.cpu().numpy() for each in seen.attention]


def vision_predictions(model: Any, sample: Sample) -> NDArray[np.int64] | None:
    """(N,) the token id that each visual token predicts: argmax of the language-model head at its position."""
    return observe(model, [sample], [Wanted()])[0].predicted


@torch.inference_mode()
def observe(model: Any, samples: Sequence[Sample], wanted: Sequence[Wanted]) -> list[Observation]:
    """Run a model over the samples of a batch once.

    Args:
        model: a transformers vision-language model, or an adapter of one.
        samples: of one batch (:func:`fivl_hf.explain.samples.prepare_batch`).
        wanted: of each sample.

    Returns:
        An observation of each sample.

    Raises:
        ValueError: no attention was recorded (:meth:`fivl_hf.explain.probe.AttentionRows.stacked`).
    """
    model = without_adapter(model)
    inputs, in_sequence = samples[0].inputs, samples[0].in_sequence
    layers = getattr(model.get_decoder(), "layers", None)
    early: list[torch.Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        early.append(output if isinstance(output, torch.Tensor) else output[0])

    rows, groups, columns = _recorded_places(samples, wanted, len(inputs["input_ids"]))
    lenses: list[Lens | None] = [None] * len(samples)
    with_keywords = [i for i, each in enumerate(wanted) if each.keyword_ids and samples[i].in_sequence]
    with ExitStack() as opened:
        if layers is not None:
            opened.callback(layers[min(SINK_LAYER, len(layers)) - 1].register_forward_hook(keep).remove)
        recorded = opened.enter_context(
            record_attention(model, *(each.to(model.device) for each in (rows, columns, groups)))
        )
        if with_keywords:
            places = [(samples[i].place, samples[i].image_positions) for i in with_keywords]
            read = opened.enter_context(recorded_lens(model, places, [wanted[i].keyword_ids for i in with_keywords]))
        outputs = model.base_model(**inputs.to(model.device, model.dtype), use_cache=False)
    for i, found_lens in zip(with_keywords, read() if with_keywords else (), strict=True):
        lenses[i] = found_lens
    attention = recorded.stacked()
    observations = []
    for sample, each, lens in zip(samples, wanted, lenses, strict=True):
        positions = sample.image_positions.to(model.device)
        maps = attention[sample.place, :, :, :, : len(positions)].float()
        predicted, sinks = None, np.zeros(len(positions), dtype=bool)
        if in_sequence:
            hidden = outputs.last_hidden_state[sample.place, positions]
            predicted = model.get_output_embeddings()(hidden).argmax(dim=-1).cpu().numpy()
        if in_sequence and early:
            sinks = visual_sinks(early[0][sample.place], positions).cpu().numpy()
        groups_of = [maps[:, :, number] if len(span) else None for number, span in enumerate(each.spans)]
        observations.append(Observation(groups_of, predicted, lens, sinks))
    return observations


def _recorded_places(
    samples: Sequence[Sample], wanted: Sequence[Wanted], batch: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the positions whose attention is recorded, what they weigh in each group of tokens, and to which tokens.

    Returns:
        (B, R), (B, G, R), (B, N); those of samples with fewer than another are filled up, and weigh nothing.
    """
    rows_of = [np.unique(np.concatenate([*(span - 1 for span in each.spans), []])) for each in wanted]
    rows_of = [places if len(places) else np.zeros(1) for places in rows_of]
    rows = torch.zeros(batch, max(map(len, rows_of)), dtype=torch.int64)
    groups = torch.zeros(batch, max(1, *(len(each.spans) for each in wanted)), rows.shape[1])
    columns = torch.zeros(batch, max(len(sample.image_positions) for sample in samples), dtype=torch.int64)
    for sample, each, places in zip(samples, wanted, rows_of, strict=True):
        rows[sample.place] = int(places[0])
        rows[sample.place, : len(places)] = torch.from_numpy(places.astype(np.int64))
        columns[sample.place, : len(sample.image_positions)] = sample.image_positions
        for number, span in enumerate(each.spans):
            if len(span):
                groups[sample.place, number, np.searchsorted(places, span - 1)] = 1 / len(span)
    return rows, groups, columns
