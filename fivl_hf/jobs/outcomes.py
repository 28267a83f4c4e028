"""Outcomes of samples (a row, a drop or a failure) and their tally."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Drop", "Failure", "Outcome", "Tally", "Worker", "as_counter"]


@dataclass(frozen=True)
class Drop:
    """A sample that is left out for what it is, such as an answer in which nothing can be seen."""

    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Failure:
    """A sample in which something is broken, such as an image file that cannot be read."""

    id: str
    reason: str
    detail: str = ""


class Outcome(Protocol):
    """The result of one sample, with all that a report needs."""

    @property
    def id(self) -> str:
        """The sample's id."""
        ...

    @property
    def result(self) -> dict[str, Any] | Drop | Failure:
        """A row, or why there is none."""
        ...

    @property
    def part(self) -> str:
        """The part of the dataset that a row belongs to; empty for the whole."""
        ...

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return counts under several headings, which are added up over all samples."""
        ...

    def left_out(self) -> Sequence[dict[str, Any]]:
        """Return entries for the list of problems, beside the sample's own: parts of it that were left out."""
        ...


class Worker(Protocol):
    """Whatever makes rows in one process, with models it has loaded."""

    def make(self, samples: Sequence[Any]) -> Sequence[Outcome]:
        """Return one outcome per sample, in order."""
        ...


@dataclass
class Tally:
    """The count of everything read: ``kept + dropped + failed == read``, always.

    Attributes:
        dropped, failed: how many, by reason.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        # dataclasses.asdict takes a Counter's items for what it is to count.
        return {"read": self.read, "kept": self.kept, "dropped": dict(self.dropped), "failed": dict(self.failed)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Tally":
        return cls(
            int(fields["read"]), int(fields["kept"]), as_counter(fields["dropped"]), as_counter(fields["failed"])
        )

    def add(self, other: "Tally") -> None:
        self.read += other.read
        self.kept += other.kept
        self.dropped += other.dropped
        self.failed += other.failed

    def count(self, result: dict[str, Any] | Drop | Failure) -> None:
        """Add one sample."""
        self.read += 1
        if isinstance(result, Drop):
            self.dropped[result.reason] += 1
        elif isinstance(result, Failure):
            self.failed[result.reason] += 1
        else:
            self.kept += 1

    def line(self) -> str:
        """Return "10 read = 8 kept + 1 dropped + 1 failed"."""
        dropped, failed = self.dropped.total(), self.failed.total()
        return f"{self.read:,} read = {self.kept:,} kept + {dropped:,} dropped + {failed:,} failed"


def as_counter(counts: Mapping[str, Any]) -> Counter[str]:
    """Check counts that were read from a file; raises TypeError or ValueError for what is not a number."""
    return Counter({str(name): int(count) for name, count in counts.items()})
