"""The annotators' page in Chromium, served by ``fivl annotate``."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import needs_browser, opened, press, unreadable, until
from drawn_rows import expression, part_mask, row
from page_servers import served
from PIL import Image

from fivl_hf.annotation.records import AnnotationFile
from fivl_hf.cli.main import main
from fivl_hf.images import as_encoded
from fivl_hf.masks import decode_mask, encode_mask
from fivl_hf.storage import write_dataset

pytestmark = needs_browser

# What Gradio's image editor writes when it is given layers.
GRADIOS = "No draw texture found for layer"


@pytest.fixture
def scenes(tmp_path: Path, rows: Any) -> Path:
    write_dataset(tmp_path / "scenes", {"train": rows}, title="S", description="D")
    return tmp_path / "scenes"


def annotate(dataset: Path, folder: Path, *names: str, more: tuple[Any, ...] = ()) -> Any:
    annotators = [part for name in names for part in ("--annotator", name)]
    arguments = ["annotate", dataset, *annotators, "--output", folder / "study", "--sample", 12, "--port", 0, *more]
    return served(arguments, folder, links=len(names))


def panel(driver: Any) -> Any:
    return until(driver, lambda d: d.find_elements("css selector", ".fivl-annotate .panel"))[0]


def item(driver: Any) -> str:
    return panel(driver).get_dom_attribute("data-item")


def next_item(driver: Any, before: str) -> str:
    return until(driver, lambda d: item(d) != before and (item(d) or "the end"))


def said(folder: Path, name: str) -> dict[str, Any]:
    return AnnotationFile(folder / "study" / "annotators" / f"{name}.jsonl").annotations


def click(driver: Any, text: str) -> None:
    buttons = driver.find_elements("xpath", f"//button[contains(normalize-space(), {text!r})]")
    next(button for button in buttons if button.is_displayed()).click()


def test_ten_items_by_keyboard_a_kill_and_the_agreement(scenes, tmp_path):
    """Everything by keys; the server is killed half-way; what was said is there, and goes on where it stopped."""
    seen = []
    with annotate(scenes, tmp_path, "anna", "ben") as (links, process):
        with opened(links["anna"]) as driver:
            current = item(driver)
            for keys in ("111", "112", "131", "222", "111"):
                seen.append(current)
                press(driver, keys + "\n")
                current = next_item(driver, current)
            press(driver, "2")
            until(driver, lambda _: current in said(tmp_path, "anna"))
            process.kill()
        process.wait()
    assert [said(tmp_path, "anna")[key].answers["example"] for key in seen] == ["yes", "no", "yes", "no", "yes"]

    with annotate(scenes, tmp_path, "anna", "ben") as (links, _):
        with opened(links["anna"]) as driver:
            assert item(driver) == current
            assert "5 of 12 done" in panel(driver).text
            press(driver, "u")  # the answer of before the kill
            until(driver, lambda _: current not in said(tmp_path, "anna"))
            until(driver, lambda d: d.find_elements("css selector", ".current[data-field=mask]"))
            for _ in range(5):
                seen.append(current)
                press(driver, "111\n")
                current = next_item(driver, current)
        with opened(links["ben"]) as driver:
            # Blind: nothing of anna's.
            assert "0 of 12 done" in panel(driver).text
            before = item(driver)
            press(driver, "112")
            press(driver, "ca comment of mine, 123")
            # It is kept before the box is left.
            until(driver, lambda _: said(tmp_path, "ben")[before].comment == "a comment of mine, 123")
            press(driver, "\ue00c")  # Escape
            press(driver, "\n")
            next_item(driver, before)
    assert len(set(seen)) == 10
    assert all(each.complete for each in said(tmp_path, "anna").values())
    assert main(["agreement", str(scenes), "--annotations", str(tmp_path / "study"), "--output", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "agreement.json").read_text())
    assert summary["annotators"] == {"anna": 10, "ben": 1}
    assert summary["shares"]["mask"]["all"]["yes"] == 9
    assert summary["shares"]["mask"]["all"]["n"] == 10


def test_fixes_by_mouse_and_keys(scenes, tmp_path):
    from selenium.webdriver import ActionChains

    with annotate(scenes, tmp_path, "anna") as (links, _), opened(links["anna"], 1400, allowed=GRADIOS) as driver:
        key = item(driver)
        press(driver, "fx")
        layers = driver.find_element("css selector", ".layers")
        width, height = layers.size["width"], layers.size["height"]
        actions = ActionChains(driver).move_to_element_with_offset(layers, -width // 4, -height // 4)
        actions.click_and_hold().move_by_offset(width // 2, height // 4).release().perform()
        until(driver, lambda _: key in said(tmp_path, "anna"))
        assert unreadable(driver) == []
        # Scenes are 40 × 40: from a quarter to three quarters, and to the middle.
        assert np.allclose(said(tmp_path, "anna")[key].boxes, [[10, 10, 30, 20]], atol=0.6)
        press(driver, "d")
        until(driver, lambda _: said(tmp_path, "anna")[key].drop)
        words = driver.find_element("css selector", "[data-field=text]")
        words.clear()
        words.send_keys("zebra\ue00c")
        until(driver, lambda d: "'zebra' is not in the answer" in panel(d).text)
        press(driver, "mb[]+-x")  # the view alone
        assert len(said(tmp_path, "anna")) == 1
        click(driver, "Paint the mask")
        canvas = until(
            driver, lambda d: [each for each in d.find_elements("tag name", "canvas") if each.is_displayed()]
        )
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas[0])
        until(driver, lambda d: d.execute_script("return document.readyState") == "complete")
        stroke = ActionChains(driver).move_to_element(canvas[0]).click_and_hold()
        stroke.move_by_offset(30, 20).move_by_offset(30, 20).release().perform()
        press(driver, "\n")
        until(driver, lambda d: "Save the painted mask" in panel(d).text)
        click(driver, "Save mask")
        until(driver, lambda _: said(tmp_path, "anna")[key].mask_png)
        painted = decode_mask(said(tmp_path, "anna")[key].mask_bytes)
        assert painted.shape == (40, 40)
        assert painted.any()


def test_a_strangers_link_and_the_end(scenes, tmp_path):
    with annotate(scenes, tmp_path, "anna", more=("--share-file", tmp_path / "links.csv")) as (links, _):
        assert (tmp_path / "links.csv").read_text() == f"name,link\nanna,{links['anna']}\n"
        with opened(links["anna"].split("?")[0]) as driver:
            assert "Unknown link" in panel(driver).text
            press(driver, "111\nu")
        assert said(tmp_path, "anna") == {}
        with opened(links["anna"], 390) as driver:
            current = item(driver)
            for _ in range(12):
                press(driver, "111\n")
                current = next_item(driver, current)
            assert "All done" in panel(driver).text
            assert driver.execute_script("return document.documentElement.scrollWidth") <= 390


def test_large_images_and_hostile_texts(tmp_path):
    """8,000 × 6,000 pixels; texts that try to be HTML, a script or a template are shown as they are."""
    hostile = "<script>document.title='x'</script><img src=x onerror=\"document.title='x'\"> ${1+1} {{constructor}}"
    image, mask = Image.new("RGB", (8000, 6000), "white"), np.zeros((6000, 8000), dtype=bool)
    mask[:3000, :4000] = True
    large = {
        **row([expression("car", 2)], [part_mask(2)]),
        "id": hostile,
        "images": [as_encoded(image)],
        "masks": [as_encoded(encode_mask(mask))],
    }
    large["messages"] = [
        {"role": "user", "content": hostile},
        {"role": "assistant", "content": f"A car {hostile}"},
    ]
    write_dataset(tmp_path / "rows", {"train": [large]}, title="S", description="D")
    with annotate(tmp_path / "rows", tmp_path, "anna") as (links, _), opened(links["anna"]) as driver:
        key = item(driver)
        assert key == f"{hostile}/0"
        assert panel(driver).text.count("${1+1} {{constructor}}") == 2
        assert "<script>" in panel(driver).text
        press(driver, "1")
        until(driver, lambda _: key in said(tmp_path, "anna"))
        press(driver, "c" + hostile + "\ue00c")
        until(driver, lambda _: said(tmp_path, "anna")[key].comment == hostile)
        assert driver.title.startswith("Annotate")
        image = driver.find_element("css selector", ".layers img")
        assert int(image.get_property("naturalWidth")) == 1400


def test_a_full_disk_is_said_and_loses_nothing(scenes, tmp_path):
    with annotate(scenes, tmp_path, "anna") as (links, _), opened(links["anna"]) as driver:
        key = item(driver)
        press(driver, "1")
        file = tmp_path / "study" / "annotators" / "anna.jsonl"
        until(driver, lambda _: file.exists() and key in said(tmp_path, "anna"))
        kept = file.rename(tmp_path / "kept.jsonl")
        file.symlink_to("/dev/full")
        press(driver, "1")
        until(driver, lambda d: "Not saved" in panel(d).text)
        assert "when this is fixed, answer again" in panel(driver).text
        file.unlink()
        kept.rename(file)
        press(driver, "21")
        until(driver, lambda _: said(tmp_path, "anna")[key].complete)
        assert said(tmp_path, "anna")[key].answers == {"mask": "yes", "expression": "no", "example": "yes"}
