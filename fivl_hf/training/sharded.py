"""Gradients of a language-model head that FSDP2 holds in shards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Partial

__all__ = ["head_gradients_reduced"]


@contextmanager
def head_gradients_reduced(head: torch.nn.Module | None) -> Iterator[None]:
    """While open, the gradient of a sharded head that is gathered as a whole is averaged over the processes.

    TRL's fused head (1.16) gathers the head with ``full_tensor()``, whose gradient is by default taken to be the same
    everywhere: each process would keep its own part of its own gradient. FSDP2 averages that of all other parameters.
    It changes a method of ``DTensor`` meanwhile, so that threads must not open it side by side.
    """
    parameters = [parameter for parameter in head.parameters() if isinstance(parameter, DTensor)] if head else []
    if not parameters:
        yield
        return
    original = DTensor.full_tensor

    def full_tensor(self: DTensor, *, grad_placements: Any = None) -> torch.Tensor:
        if grad_placements is not None or not any(self is parameter for parameter in parameters):
            return original(self, grad_placements=grad_placements)
        mesh = self.device_mesh
        whole = original(self, grad_placements=[Partial()] * mesh.ndim)
        if whole.requires_grad:
            whole.register_hook(lambda gradient: gradient / mesh.size())
        return whole

    DTensor.full_tensor = full_tensor  # type: ignore[method-assign]
    try:
        yield
    finally:
        DTensor.full_tensor = original  # type: ignore[method-assign]
