"""The logit lens on image positions: where in depth does a patch know its word?

Each layer's output goes through the final norm and the language-model head, as if the model ended there
(nostalgebraist, 2020). Shapes: L layers, N visual tokens, K keywords.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fivl_hf.explain.attention import soft_capped
from fivl_hf.explain.samples import Sample
from fivl_hf.masks import FloatArray
from fivl_hf.models import without_adapter

__all__ = [
    "LOGITS_AT_A_TIME",
    "PLACES",
    "DepthCurves",
    "KeywordDepth",
    "Lens",
    "final_logits",
    "keyword_depth",
    "logit_lens",
    "recorded_lens",
    "top_predictions",
]

LOGITS_AT_A_TIME = 1024
"""Tokens whose logits are in memory at a time."""


@dataclass(frozen=True)
class Lens:
    """What the visual tokens predict after every layer.

    Attributes:
        ranks: (L, K, N) rank of each keyword among all tokens, 1 for the most likely.
        log_probabilities: (L, K, N) of each keyword.
    """

    ranks: NDArray[np.int64]
    log_probabilities: NDArray[np.float32]


@torch.inference_mode()
def logit_lens(model: Any, sample: Sample, keyword_ids: Sequence[int]) -> Lens | None:
    """Read the language-model head after every layer, at the visual tokens of a sample.

    Args:
        model: a transformers vision-language model, or an adapter of one.
        keyword_ids: K token ids.

    Returns:
        None for a model whose visual tokens do not stand in the sequence.

    Raises:
        ValueError: a model whose decoder has no list of layers with a final norm.
    """
    model = without_adapter(model)
    if not sample.in_sequence:
        return None
    with recorded_lens(model, [(sample.place, sample.image_positions)], [keyword_ids]) as read:
        model.base_model(**sample.inputs.to(model.device, model.dtype), use_cache=False)
    return read()[0]


@contextmanager
def recorded_lens(
    model: Any, places: Sequence[tuple[int, torch.Tensor]], keyword_ids: Sequence[Sequence[int]]
) -> Iterator[Callable[[], list[Lens]]]:
    """While open, a forward pass reads the language-model head after every layer.

    The logits of one part of one layer's tokens are in memory at a time.

    Args:
        model: a transformers vision-language model.
        places: of each sample, its place in the batch and the positions (N,) of its visual tokens in the sequence.
        keyword_ids: of each sample, K token ids.

    Yields:
        A function that gives the samples' lenses after the pass.

    Raises:
        ValueError: as :func:`logit_lens`.
    """
    decoder = model.get_decoder()
    _require_layers(decoder)
    device, counts = model.device, [len(positions) for _, positions in places]
    batch = torch.tensor([place for place, _ in places], device=device).repeat_interleave(
        torch.tensor(counts, device=device)
    )
    positions = torch.cat([positions for _, positions in places]).to(device)
    most = max(map(len, keyword_ids), default=0)
    # (total N, most K): samples with fewer keywords are padded with token 0, whose columns `lenses` drops.
    padded = torch.tensor([[*ids, *[0] * (most - len(ids))] for ids in keyword_ids], device=device)
    wanted = padded.repeat_interleave(torch.tensor(counts, device=device), dim=0)
    ranks: list[torch.Tensor] = []
    log_probabilities: list[torch.Tensor] = []

    def read(_: Any, __: Any, output: Any) -> None:
        hidden = (output if isinstance(output, torch.Tensor) else output[0])[batch, positions]
        parts = [
            _keyword_places(final_logits(model, decoder.norm(part)), ids)
            for part, ids in zip(hidden.split(LOGITS_AT_A_TIME), wanted.split(LOGITS_AT_A_TIME), strict=True)
        ]
        ranks.append(torch.cat([rank for rank, _ in parts]).cpu())
        log_probabilities.append(torch.cat([logs for _, logs in parts]).cpu())

    def lenses() -> list[Lens]:
        # (layers, total N, most K) -> of each sample (layers, K, N)
        by_sample = (torch.stack(each).split(counts, 1) for each in (ranks, log_probabilities))
        return [
            Lens(rank[..., : len(ids)].mT.numpy(), logs[..., : len(ids)].mT.float().numpy())
            for rank, logs, ids in zip(*by_sample, keyword_ids, strict=True)
        ]

    with ExitStack() as hooks:
        for layer in decoder.layers:
            hooks.callback(layer.register_forward_hook(read).remove)
        yield lenses


@torch.inference_mode()
def top_predictions(model: Any, sample: Sample, token: int, count: int = 5) -> list[list[tuple[int, float]]]:
    """Return what one visual token predicts after every layer: the most likely ids with their probabilities.

    Args:
        model: as for :func:`logit_lens`.
        token: which of the sample's visual tokens, counted from 0.

    Returns:
        for each layer, ``count`` pairs, the most likely first; none for a model whose visual tokens do not stand in the
        sequence.

    Raises:
        ValueError: as :func:`logit_lens`.
    """
    model = without_adapter(model)
    if not sample.in_sequence:
        return []
    decoder = model.get_decoder()
    _require_layers(decoder)
    position = int(sample.image_positions[token])
    found: list[list[tuple[int, float]]] = []

    def read(_: Any, __: Any, output: Any) -> None:
        hidden = (output if isinstance(output, torch.Tensor) else output[0])[sample.place, position]
        top = final_logits(model, decoder.norm(hidden[None])).softmax(-1)[0].topk(count)
        found.append(list(zip(top.indices.tolist(), top.values.tolist(), strict=True)))

    with ExitStack() as hooks:
        for layer in decoder.layers:
            hooks.callback(layer.register_forward_hook(read).remove)
        model.base_model(**sample.inputs.to(model.device, model.dtype), use_cache=False)
    return found


def _require_layers(decoder: Any) -> None:
    if not (hasattr(decoder, "layers") and hasattr(decoder, "norm")):
        raise ValueError(f"{type(decoder).__name__} has no layers with a final norm to read the head after")


def _keyword_places(logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rank and log-probability (N, K) of keywords (N, K) among logits (N, V)."""
    wanted = logits.gather(1, ids)
    ranks = torch.stack([(logits > column[:, None]).sum(1) + 1 for column in wanted.unbind(1)], dim=1)
    return ranks, wanted - logits.logsumexp(1, keepdim=True)


def final_logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Return the logits (N, V) float32 of hidden states (N, D) after the final norm, as the model itself makes them."""
    logits = model.get_output_embeddings()(hidden).float()
    # Of Gemma 2. Cohere's scale of logits is left out by Aya Vision's own forward, too.
    return soft_capped(logits, getattr(model.config.get_text_config(), "final_logit_softcapping", None))


PLACES = ("at its patches", "elsewhere", "another keyword at its patches")
"""A keyword at its own patches, the same at all others, and another image's keyword at these patches."""


@dataclass(frozen=True)
class KeywordDepth:
    """The rank and probability of a keyword after every layer, at each of ``PLACES``.

    Attributes:
        rank: (L, 3) geometric mean of its rank.
        probability: (L, 3) mean probability.
    """

    rank: FloatArray
    probability: FloatArray


def keyword_depth(lens: Lens, keyword: int, other: int | None, coverage: FloatArray) -> KeywordDepth | None:
    """Summarise what the tokens of a mask know of its keyword.

    Args:
        keyword, other: places of the keyword and of another one in the lens; None without another.
        coverage: (N,) of the visual tokens, which weighs them; NaN where a token sees nothing of the image.

    Returns:
        None if the mask covers no token or all of them.
    """
    sees = np.isfinite(coverage)
    inside = np.where(sees, coverage, 0)
    outside = np.where(sees, 1 - coverage, 0)
    if not inside.sum() or not outside.sum():
        return None
    weights = [(keyword, inside), (keyword, outside), (other, inside)]

    def mean(values: Any, word: int | None, weight: FloatArray) -> FloatArray:
        return np.full(len(values), np.nan) if word is None else values[:, word] @ weight / weight.sum()

    logs, chances = np.log(lens.ranks), np.exp(lens.log_probabilities.astype(np.float64))
    return KeywordDepth(
        np.exp(np.stack([mean(logs, *each) for each in weights], axis=1)),
        np.stack([mean(chances, *each) for each in weights], axis=1),
    )


class DepthCurves:
    """The means over expressions of what patches know of their keywords, in constant memory."""

    def __init__(self) -> None:
        self._sums: FloatArray | None = None
        self._counts: FloatArray | None = None
        self._n = 0

    def add(self, depth: KeywordDepth) -> None:
        """Add an expression's."""
        both = np.stack([np.log(depth.rank), depth.probability])
        if self._sums is None or self._counts is None:
            self._sums, self._counts = np.zeros(both.shape), np.zeros(both.shape)
        self._sums += np.nan_to_num(both)
        self._counts += np.isfinite(both)
        self._n += 1

    def summary(self) -> dict[str, Any]:
        """Return, for each of ``PLACES`` and layer by layer, ``rank`` (geometric mean) and ``probability``; ``n``.

        None where there is nothing, with a ``reason``.
        """
        if self._sums is None or self._counts is None:
            return {"rank": None, "probability": None, "n": 0, "reason": "no keyword's patches predict tokens"}
        found = np.divide(self._sums, self._counts, out=np.full(self._sums.shape, np.nan), where=self._counts > 0)
        listed = {
            name: {place: _listed(values[:, column]) for column, place in enumerate(PLACES)}
            for name, values in (("rank", np.exp(found[0])), ("probability", found[1]))
        }
        return {**listed, "n": self._n}


def _listed(values: FloatArray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
