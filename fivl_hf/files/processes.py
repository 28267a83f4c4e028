"""The processes of a run that was started by ``accelerate launch`` or ``torchrun``; one where it was not."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

__all__ = ["Processes"]

Made = TypeVar("Made")

# One process may be at a long batch, or at scoring, while the others wait.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Processes:
    """This process and how many there are.

    Attributes:
        number: of this process, from 0.
        count: of all processes.
        state: accelerate's ``PartialState``; None where there is one process.
    """

    number: int = 0
    count: int = 1
    state: Any = None

    @staticmethod
    def of_this_run() -> "Processes":
        """Join the other processes, if there are any."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return Processes()
        import torch
        from accelerate.state import PartialState

        # Without an accelerator, accelerate joins no processes unless it is told so.
        state = PartialState(cpu=not torch.accelerator.is_available(), timeout=_PATIENCE)
        return Processes(state.process_index, state.num_processes, state)

    @property
    def first(self) -> bool:
        return self.number == 0

    @property
    def device(self) -> str | None:
        """The device of this process; None where there is a single one, which may take any."""
        return None if self.state is None else str(self.state.device)

    @contextmanager
    def first_enters(self, context: AbstractContextManager[Any]) -> Iterator[None]:
        """Enter a context in the first process; the others go on when it is open, and it closes when all have left."""
        if self.first:
            with context:
                self.wait()
                yield
                self.wait()
        else:
            self.wait()
            yield
            self.wait()

    def from_first(self, make: Callable[[], Made]) -> Made:
        """Return what the first process makes, in all."""
        if self.state is None:
            return make()
        from accelerate.utils import broadcast_object_list

        made: list[Any] = [make() if self.first else None]
        return cast(Made, broadcast_object_list(made)[0])

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.state is not None:
            self.state.wait_for_everyone()
