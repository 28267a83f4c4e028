from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is answered with x."""

    def answers(model: Any, processor: Any, requests: list[Any], **options: Any) -> Iterator[tuple[int, str]]:
        return ((number, "x") for number in range(len(requests)))

    monkeypatch.setattr("fivl_hf.evaluation.runner.generate_answers", answers)
