"""Visual sink tokens: image positions that draw attention wherever they are, without saying anything.

Some dimensions of the hidden states are very large at the first token of every text, and at a few visual tokens; heads
that have nothing to look at look there (Kang et al., ICLR 2025, arXiv 2503.03321). Shapes: T tokens, D hidden size, N
visual tokens.
"""

import torch

__all__ = ["SINK_LAYER", "visual_sinks"]

SINK_LAYER = 2
"""The layer, counted from 1, after whose output sinks are found; the last of a model with fewer."""
_LARGE = 20.0


def visual_sinks(hidden: torch.Tensor, image_positions: torch.Tensor, large: float = _LARGE) -> torch.Tensor:
    """Return which visual tokens are sinks.

    Args:
        hidden: (T, D) output of an early layer for one sample.
        image_positions: (N,) of the visual tokens.
        large: how many times its root mean square a dimension must be.

    Returns:
        (N,) bool; none where the first token has no such dimension.
    """
    relative = hidden.float().abs()
    relative = relative / relative.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(1e-12)
    dimensions = relative[0] >= large
    return (relative[image_positions][:, dimensions] >= large).any(dim=-1)
