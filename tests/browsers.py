"""Headless Chromium for the tests of pages; they are skipped where it is not installed."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["needs_browser", "opened", "press", "until"]

needs_browser = pytest.mark.skipif(
    not shutil.which("chromedriver"), reason="needs Debian's chromium and chromium-driver"
)


@contextmanager
def opened(page: Path | str, width: int = 1200, *, allowed: str = "") -> Iterator[Any]:
    """Open a page, a file or an address, in a window of some width; fails if a script wrote an error to the console.

    Args:
        allowed: words of an error of somebody else's script.
    """
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    # A window has at least 500 pixels.
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)
        yield driver
        errors = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        strange = [message for message in errors if not (allowed and allowed in message)]
        assert not strange, strange
    finally:
        driver.quit()


def until(driver: Any, true: Callable[[Any], Any], seconds: float = 30) -> Any:
    """Wait until something is true of a page, and return it; fails if it never is."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds, 0.05, [StaleElementReferenceException]).until(true)


def press(driver: Any, keys: str) -> None:
    """Press keys one after the other, wherever the focus is; "\\n" is Enter."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    for key in keys:
        ActionChains(driver).send_keys(Keys.ENTER if key == "\n" else key).perform()
