from pathlib import Path

import pytest

from fivl_hf.demo.run import run_demo
from fivl_hf.demo.settings import DemoSettings

SMALL = DemoSettings(seed=1, steps=3, train_rows=40, validation_rows=6, test_rows=8, batch_size=8)


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """A demo in small, in a folder called demo."""
    output = tmp_path_factory.mktemp("work") / "demo"
    run_demo(output, SMALL)
    return output


@pytest.fixture(scope="session")
def small_settings() -> DemoSettings:
    return SMALL
