"""The page of an explanation: what it holds, and what it shows in a browser."""

import json
import re

import pytest
from browsers import needs_browser, opened

from fivl_hf.cli.main import main
from fivl_hf.explain.report import write_heads_report
from fivl_hf.storage import write_dataset


@pytest.fixture(scope="module")
def explained(tmp_path_factory, processor, rows):
    """An explanation with its knock-out, in one folder."""
    from fivl_hf.scenes.model import scene_model

    folder = tmp_path_factory.mktemp("explained")
    hostile = {**rows[0], "id": "</script><script>document.title = 'broken into'</script>"}
    write_dataset(folder / "rows", {"test": [hostile, *rows[1:10]]}, title="S", description="D")
    scene_model(processor, seed=0, hidden_size=32, text_layers=2, vision_layers=1).save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    about = ["--model", str(folder / "model"), "--dataset", str(folder / "rows"), "--output", str(folder / "out")]
    assert main(["explain", *about, "--pictures", "2"]) == 0
    before = (folder / "out" / "report.html").read_text()
    assert "fivl knockout --model" in before
    assert main(["knockout", *about, "--sizes", "1,2", "--draws", "5", "--window", "1"]) == 0
    return folder / "out"


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())[1])


def test_the_page_has_what_the_explanation_says(explained):
    result = json.loads((explained / "explanation.json").read_text())
    page = explained / "report.html"
    data = data_of(page)["measures"]
    assert set(data) == set(result["measures"])
    for name, each in data.items():
        measure = result["measures"][name]
        assert each["alignment"] == measure["alignment"]
        assert each["control_alignment"] == measure["control_alignment"]
        assert each["chosen"] == measure["held_out"]["heads"]
    text = page.read_text()
    assert f"{result['measures']['auroc']['held_out']['value']:.3f}" in text
    assert "fivl knockout --model" not in text
    assert text.count("data:image/png") >= 4  # the two charts and the two examples
    for effect in result["knockout"]["sets"]["aligned"]["effects"]:
        assert f"{effect['expression']:.3f}" in text
    assert "layer 1" in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_it_is_made_again_without_a_model(explained, capsys):
    page = explained / "report.html"
    before = page.read_text()
    page.unlink()
    assert main(["report", str(explained)]) == 0
    assert f"the page is {page}" in capsys.readouterr().out
    assert page.read_text() == before


def test_large_pictures_are_files_beside_it(explained, monkeypatch):
    monkeypatch.setattr("fivl_hf.explain.report._EMBEDDED", 10)
    page = write_heads_report(explained)
    assert 'src="pictures/000.png"' in page.read_text()
    monkeypatch.undo()
    write_heads_report(explained)


def test_beside_an_evaluation_it_has_another_name(explained):
    (explained / "reliance.json").write_text("{}")
    try:
        assert write_heads_report(explained).name == "heads.html"
    finally:
        (explained / "reliance.json").unlink()
        (explained / "heads.html").unlink()


def test_other_folders_are_refused(explained, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no explanation.json: finish fivl explain"):
        write_heads_report(tmp_path)
    result = json.loads((explained / "explanation.json").read_text())
    del result["measures"]["auroc"]
    (tmp_path / "explanation.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match="explanation.json cannot be shown .*run fivl explain again, with --restart"):
        write_heads_report(tmp_path)


def test_few_images_are_reported(model, processor, rows, tmp_path):
    from fivl_hf.explain.runner import write_explanation

    write_explanation(model, processor, rows[:1], tmp_path, pictures=0)
    text = (tmp_path / "report.html").read_text()
    assert "the rows are about too few images to choose heads on some and measure them on others" in text


@needs_browser
@pytest.mark.parametrize("width", [420, 1600])
def test_maps_are_drawn_for_each_measure(explained, width):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.select import Select

    measures = data_of(explained / "report.html")["measures"]
    with opened(explained / "report.html", width=width) as driver:
        select = Select(driver.find_element("id", "measure"))
        assert select.first_selected_option.get_attribute("value") == "auroc"
        colours = set()
        for name, each in measures.items():
            select.select_by_value(name)
            layers, heads = len(each["alignment"]), len(each["alignment"][0])
            for place in ("own", "control"):
                assert len(driver.find_elements("css selector", f"#{place} rect")) == layers * heads
                chosen = driver.execute_script(
                    "return [...document.querySelectorAll(arguments[0])].map(each => each.dataset.head)",
                    f"#{place} rect.chosen",
                )
                assert set(chosen) == {f"{layer},{head}" for layer, head in each["chosen"]}
            rows = driver.find_elements("css selector", "#top tr")
            assert len(rows) == len(each["top"])
            assert rows[0].text.startswith(f"{each['top'][0]['layer']},{each['top'][0]['head']}")
            script = "return getComputedStyle(document.querySelector('#own rect')).fill"
            colours.add(driver.execute_script(script))
        assert len(colours) > 1
        ActionChains(driver).move_to_element(driver.find_element("css selector", "#own rect")).perform()
        assert driver.find_element("id", "cell").text.startswith("layer ")
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert driver.title.startswith("Attention heads of")
        script = "return [...document.images].filter(each => each.complete && !each.naturalWidth).length"
        assert driver.execute_script(script) == 0
