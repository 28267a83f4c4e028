"""Make screenshots of every page that is served or written, in docs/screens, and the README's report.png.

Each page is shown at 390 and at 1,400 pixels, light and dark. Needs the finished demo (``make demo``), and Debian's
chromium and chromium-driver. The ratings are made up.
"""

import base64
import io
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService

ROOT = Path(__file__).parents[1]
SCREENS = ROOT / "docs" / "screens"
MODELS, ROWS = ROOT / "demo" / "models", ROOT / "demo" / "fivl"
WIDTHS, SCHEMES = (390, 1400), ("light", "dark")
_HIGHEST = 3200


@contextmanager
def served(*arguments: Any) -> Iterator[str]:
    """Run a command that serves a page, and give its first link."""
    command = [sys.executable, "-m", "fivl_hf", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    try:
        for line in process.stdout or ():
            if found := re.search(r"http\S+", line):
                yield found[0]
                return
        raise RuntimeError(f"{' '.join(command)} served nothing")
    finally:
        process.kill()
        process.wait()


def shoot(name: str, address: str, act: Any = None) -> None:
    """Open a page in every width and scheme, do something there, and save what it shows."""
    for width in WIDTHS:
        for scheme in SCHEMES:
            _screenshot(SCREENS / f"{name}-{width}-{scheme}.png", address, width, scheme, _HIGHEST, act)


def _screenshot(path: Path, address: str, width: int, scheme: str, highest: int, act: Any = None) -> None:
    """Open a page in Chromium, do something there, and save what it shows, at most ``highest`` pixels of it."""
    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(address)
    time.sleep(4)
    if act:
        act(driver)
        time.sleep(2)
    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": width, "height": min(size["height"], highest), "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB").save(path, optimize=True)
    driver.quit()
    print(path)


def rated(folder: Path) -> None:
    """Make up three annotators' ratings of 60 expressions, right ones more often than wrong ones."""
    from fivl_hf.annotation.items import draw_items, matching_rows
    from fivl_hf.annotation.records import QUESTIONS
    from fivl_hf.annotation.study import Study
    from fivl_hf.storage import load_rows

    rows = load_rows(ROWS, "test")
    items, rng = draw_items(rows, sample=60), random.Random(0)
    study = Study(folder, items, *matching_rows(rows, items), ["Anna", "Ben", "Chloë"])
    for item in items:
        for question in QUESTIONS:
            likely = rng.choices(["yes", "no"], [8, 2])[0]
            for name in study.annotators:
                said = rng.choices([likely, "yes", "no", "unsure"], [8, 1, 1, 1])[0]
                study.record(name, item.key, question, said)


def answer_one(driver: Any) -> None:
    """Answer the first question."""
    ActionChains(driver).send_keys("1").perform()


def look(driver: Any) -> None:
    """Click a patch, and compare with random boxes."""
    layers = driver.find_element("css selector", ".layers")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", layers)
    ActionChains(driver).move_to_element_with_offset(layers, 30, 30).click().perform()
    time.sleep(1)
    driver.execute_script("document.querySelector('[data-do=random]').click()")


def main() -> None:
    if not (ROWS / "README.md").exists():
        sys.exit("make the demo first: make demo")
    SCREENS.mkdir(exist_ok=True)
    report = (ROOT / "demo" / "report.html").as_uri()
    _screenshot(ROOT / "docs" / "report.png", report, 1080, "light", 1190)  # down to its first chart
    with tempfile.TemporaryDirectory() as temporary:
        study = Path(temporary) / "study"
        with served("annotate", ROWS, "--split", "test", "--annotator", "Anna", "--output", study) as address:
            shoot("annotate", address, answer_one)
        rated(Path(temporary) / "ratings")
        rating = ("--annotations", Path(temporary) / "ratings", "--output", Path(temporary) / "agreement")
        command = [sys.executable, "-m", "fivl_hf", "agreement", ROWS, "--split", "test", *rating]
        subprocess.run(list(map(str, command)), check=True, cwd=ROOT, capture_output=True)
        shoot("agreement", (Path(temporary) / "agreement" / "agreement.html").as_uri())
    with served("explore", MODELS / "fivl", ROWS, "--compare", MODELS / "baseline") as address:
        shoot("explore", address, look)
    with served("show", ROWS, "--split", "test", "--browse") as address:
        shoot("browse", address)
    if (site := ROOT / "build" / "site" / "index.html").exists():
        shoot("site", site.as_uri())


if __name__ == "__main__":
    main()
