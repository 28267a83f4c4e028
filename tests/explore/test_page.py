"""The page of ``fivl explore`` in Chromium, on the demo's models."""

import base64
import re

import pytest
from browsers import needs_browser, opened, press, unreadable, until
from page_servers import served
from PIL import Image

from fivl_hf.explore.examples import choose_examples
from fivl_hf.explore.page import _Session
from fivl_hf.images import image_bytes


def request(**more):
    return {"step": "ask", "layer": 0, "head": -1, "asked": None, "question": "What shape is red?", **more}


def test_questions_are_kept_and_wrong_requests_are_problems(explorer, rows, monkeypatch):
    session = _Session([explorer], choose_examples(rows, 3))
    assert "Choose an image first" in session.act(request())["problem"]
    first = session.act(request(example=0))
    assert "data-word" in first["html"]
    again = session.act({**request(asked=first["asked"]), "step": "look", "head": 1})
    assert again["asked"] == first["asked"]
    assert "head 1 of layer 0" in again["html"]
    # Another question about the same image; its evidence is not known.
    second = session.act(request(asked=first["asked"], question="What color is the ring?"))
    assert "The dataset answers" not in second["html"]
    photo = "data:image/png;base64," + base64.b64encode(image_bytes(Image.new("RGB", (60, 30), "red"))).decode()
    assert 'data-width="60" data-height="30"' in session.act(request(photo=photo))["html"]
    for wrong, message in [
        (request(photo="data:text/html;base64,aGk="), "An image of at most 20 MB is needed"),
        (request(photo="data:image/png;base64,aGk="), "This file is not an image that can be read"),
        (request(photo="data:image/png;base64,***"), "This file is not an image that can be read"),
        (request(example=0, question="x") | {"example": None, "question": ""}, "Choose an image first"),
        ({"step": "look", "asked": "nothing"}, "This question is no longer stored"),
    ]:
        assert message in session.act(wrong)["problem"]
    for wrong in (request(example=0, layer="x"), request(example=99), {"step": "look"}):
        with pytest.raises((ValueError, IndexError, KeyError)):
            session.act(wrong)
    monkeypatch.setattr("fivl_hf.explore.page._KEPT", 2)
    keys = [session.act(request(example=0))["asked"] for _ in range(3)]
    assert list(session.asked) == keys[1:]


@pytest.mark.slow
@needs_browser
def test_ask_click_a_word_click_a_patch_draw_a_box_compare(demo, tmp_path):
    from selenium.webdriver import ActionChains

    models = demo / "models"
    arguments = ["explore", models / "fivl", demo / "fivl", "--compare", models / "baseline", "--examples", 8]

    def text(driver, selector):
        return " ".join(each.text for each in driver.find_elements("css selector", selector))

    with served([*arguments, "--port", 0], tmp_path) as (links, _), opened(links["fivl"], 1400) as driver:
        until(driver, lambda d: len(d.find_elements("css selector", ".model")) == 2)
        # Ask: a question of one's own about the image of the example.
        question = driver.find_element("css selector", "[name=question]")
        question.clear()
        question.send_keys("What is to be seen?\n")
        until(driver, lambda d: "The dataset answers" not in text(d, ".answers"))
        # A word: its attention.
        driver.find_element("css selector", '[data-model="0"] [data-word="0"]').click()
        word = driver.find_element("css selector", '[data-model="0"] [data-word="0"]').text.split()[0]
        until(driver, lambda d: f"Attention on “{word}”" in text(d, '[data-model="0"] figcaption'))
        # A patch: what it predicts; the next one by key.
        layers = driver.find_element("css selector", ".layers")
        ActionChains(driver).move_to_element_with_offset(layers, 40, 40).click().perform()
        until(driver, lambda d: "Predictions of this patch" in text(d, ".model"))
        assert len(driver.find_elements("css selector", '[data-model="1"] .bars tr')) == 5
        before = driver.find_element("css selector", "circle").get_dom_attribute("cx")
        driver.execute_script("document.querySelector('.frame').focus()")
        press(driver, "\ue014")  # right
        until(driver, lambda d: d.find_element("css selector", "circle").get_dom_attribute("cx") != before)
        # A box: the answer is asked again, and the change of each word shown.
        assert "Answer with the box" not in text(driver, ".model")
        layers = driver.find_element("css selector", ".layers")
        ActionChains(driver).move_to_element_with_offset(layers, -150, -150).click_and_hold().move_by_offset(
            200, 200
        ).release().perform()
        until(driver, lambda d: "Answer with the box changed: black out" in text(d, ".model"))
        driver.find_element("css selector", "[data-how=blur]").click()
        until(driver, lambda d: "Answer with the box changed: blur" in text(d, ".model"))
        assert re.search(r"all\s+-?\d+\.\d\d", text(driver, '[data-model="0"] .deltas'))
        # How sure: beside random boxes.
        driver.find_element("css selector", "[data-do=random]").click()
        until(driver, lambda d: "20 random boxes" in text(d, '[data-model="1"]'))
        assert unreadable(driver) == []
        # Layers and heads by key.
        layer = driver.find_element("css selector", "input[name=layer]")
        shown, last = (int(layer.get_dom_attribute(name)) for name in ("value", "max"))
        driver.execute_script("document.querySelector('input[name=layer]').focus()")
        press(driver, "\ue013" if shown < last else "\ue015")  # up, or down from the last layer
        other = shown + 1 if shown < last else shown - 1
        until(driver, lambda d: f"layer {other}" in text(d, '[data-model="0"] figcaption'))
