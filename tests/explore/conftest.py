from typing import Any

import pytest

from fivl_hf.explore.explorer import Explorer


@pytest.fixture
def explorer(model: Any, processor: Any) -> Explorer:
    """A tiny model of random weights."""
    return Explorer(model, processor, "tiny")
