"""Headless Chromium for the tests of pages; they are skipped where it is not installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["needs_browser", "opened"]

needs_browser = pytest.mark.skipif(
    not shutil.which("chromedriver"), reason="needs Debian's chromium and chromium-driver"
)


@contextmanager
def opened(page: Path, width: int = 1200) -> Iterator[Any]:
    """Open a page in a window of some width; fails if its script wrote an error to the console."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    try:
        driver.get(page.resolve().as_uri())
        yield driver
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        driver.quit()
