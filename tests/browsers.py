"""Headless Chromium for the tests of pages; they are skipped where it is not installed."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["needs_browser", "opened", "press", "unreadable", "until"]

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


_CONTRAST = """
const channels = (color) => {
  const parts = (color.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  return color.startsWith('color(srgb') ? parts.map((part, i) => (i < 3 ? part * 255 : part)) : parts;
};
const over = (top, below) => {
  const alpha = top.length > 3 ? top[3] : 1;
  return [0, 1, 2].map((i) => top[i] * alpha + below[i] * (1 - alpha));
};
const luminance = (color) => {
  const parts = color.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const ground = (node) => {
  const layers = [];
  for (let each = node; each; each = each.parentElement) layers.push(channels(getComputedStyle(each).backgroundColor));
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  return layers.reverse().reduce((below, top) => over(top, below), dark ? [11, 15, 25] : [255, 255, 255]);
};
const all = { visibilityProperty: true, opacityProperty: true };
const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const node = texts.currentNode.parentElement, text = texts.currentNode.textContent.trim();
  if (!text || !node.checkVisibility(all) || node.closest('script, style, option')) continue;
  const below = ground(node), above = over(channels(getComputedStyle(node).color), below);
  const [one, other] = [above, below].map(luminance);
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < 4.5) found.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
}
return found;
"""


def unreadable(driver: Any) -> list[str]:
    """List what is hard to read on a page at 390 and 1,400 pixels, in light and dark.

    Returns:
        texts with a contrast below 4.5 : 1 (WCAG), and widths at which the page is wider than the window.
    """
    found = []
    for width in (390, 1400):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            # Gradio decides when it loads; what follows the media query does so at once.
            driver.execute_script("document.body.classList.toggle('dark', arguments[0] === 'dark')", scheme)
            time.sleep(0.5)
            found += [f"{width} {scheme}: {text}" for text in driver.execute_script(_CONTRAST)]
        if driver.execute_script("return document.documentElement.scrollWidth") > width:
            found.append(f"{width}: the page is wider than the window")
    return found
