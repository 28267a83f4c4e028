import signal
from collections.abc import Iterator
from typing import Any

import pytest

_SECONDS = 120


@pytest.fixture(autouse=True)
def _deadline() -> Iterator[None]:
    """End a test that hangs, whatever it waits for."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"not finished after {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
