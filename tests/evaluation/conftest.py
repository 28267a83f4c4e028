from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from fivl_hf.evaluation.answerers.local import TransformersAnswerer
from fivl_hf.evaluation.answerers.protocol import Generated


@pytest.fixture
def same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is answered with x."""

    def answers(self: Any, requests: Iterable[Any]) -> Iterator[tuple[Any, Generated]]:
        return ((request, Generated("x")) for request in requests)

    monkeypatch.setattr(TransformersAnswerer, "answers", answers)
