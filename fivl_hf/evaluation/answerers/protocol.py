"""The interface of answerers: a transformers model, an endpoint, a file of recorded answers, or your own."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from PIL import Image

__all__ = ["Answerer", "AnyRequest", "Generated", "Request", "Unanswered"]


@dataclass(frozen=True)
class Request:
    """A question under a condition.

    Attributes:
        id: of the question.
        condition: see :mod:`fivl_hf.evaluation.conditions`.
        messages: the conversation up to and including the question, in chat format with plain text.
        image_count: number of images, which stand before the first message's text.
        open_images: returns them as the condition shows them, in RGB; to be called when their turn comes.
    """

    id: str
    condition: str
    messages: Sequence[Mapping[str, str]]
    image_count: int
    open_images: Callable[[], Sequence[Image.Image]]


@dataclass(frozen=True)
class Generated:
    """The text that a model generated.

    Attributes:
        finish_reason: why it ended, in the words of OpenAI's API: "stop", "length", "content_filter"; "refusal" where
            it sent a refusal; "" if not known.
        latency: seconds until the answer was there; None if it was kept from an earlier run.
    """

    text: str
    finish_reason: str = ""
    latency: float | None = None


@dataclass(frozen=True)
class Unanswered:
    """A request that got no answer, and why."""

    id: str
    condition: str
    reason: str


AnyRequest = TypeVar("AnyRequest", bound=Request)


class Answerer(Protocol):
    """Answers questions."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Settings that change the answers, besides model, rows and questions; a run with other ones is refused."""

    @property
    def splits_over_processes(self) -> bool:
        """Whether each of several processes answers its share; if not, the first answers everything."""

    @property
    def details(self) -> Mapping[str, Any]:
        """Further settings for ``reliance.json``, read once all answers are there."""

    @property
    def unanswered(self) -> Iterable[Unanswered]:
        """The requests of this run that were left out."""

    def answers(self, requests: Iterable[AnyRequest]) -> Iterator[tuple[AnyRequest, Generated]]:
        """Yield requests with their answers, in any order, as they come.

        A request may be left out; the next run asks it again.

        Args:
            requests: can be iterated over more than once; each is made when it is asked for.
        """
