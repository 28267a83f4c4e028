"""The processes of a run that was started by ``accelerate launch`` or ``torchrun``; one where it was not."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

__all__ = ["Processes", "SharedFile"]

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
        """Call ``make`` in the first process and return its result in every process."""
        if self.state is None:
            return make()
        from accelerate.utils import broadcast_object_list

        made: list[Any] = [make() if self.first else None]
        return cast(Made, broadcast_object_list(made)[0])

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.state is not None:
            self.state.wait_for_everyone()


class SharedFile:
    """A file that the first process writes, and the parts of it that the other processes write beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = f"{path.stem}.process{{}}{path.suffix}"

    def of(self, processes: Processes) -> Path:
        """Return the path that this process writes."""
        return self.path if processes.first else self.path.with_name(self._part.format(processes.number))

    def take_parts(self, take: Callable[[Path], None], *, drop: bool = False) -> None:
        """Hand each part to a function that adds it to the file, and remove it.

        A part may come twice, if the process is killed in between.

        Args:
            drop: only remove the parts, which another run left.
        """
        for part in sorted(self.path.parent.glob(self._part.format("*"))):
            if not drop:
                take(part)
            part.unlink()
