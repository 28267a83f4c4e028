"""The page of an evaluation: what it holds, and what its filters find in a browser."""

import json
import random
import re
from dataclasses import asdict, replace

import pytest
from benchmark_folders import as_benchmark, write_benchmark
from browsers import needs_browser, opened

from fivl_hf.cli.main import main
from fivl_hf.evaluation.report import write_report
from fivl_hf.evaluation.table import by_question, read_answers
from fivl_hf.files.appended import AppendedLines
from fivl_hf.files.atomic import write_json
from fivl_hf.storage import load_rows

_HOSTILE = (
    "</script><script>document.title = 'broken into'</script><img src=x onerror=\"document.title = 'broken into'\">"
)


@pytest.fixture
def evaluated(tmp_path, rows, monkeypatch):
    """An evaluation of recorded answers: right, wrong and unreadable ones under four conditions."""
    monkeypatch.chdir(tmp_path)
    asked = [{**row, "category": f"kind {i % 3}"} for i, row in enumerate(as_benchmark(rows[:12], "POPE"))]
    asked[3] = {**asked[3], "key_expressions": [], "masks": []}
    asked[4] = {**asked[4], "question": _HOSTILE, "key_expressions": [], "masks": []}
    write_benchmark(tmp_path / "fivl-pope", "adversarial", asked)
    conditions = ("original", "removed", "random", "text-only")
    chance = random.Random(1)
    replies = ["yes", "no", "yes", "perhaps", _HOSTILE]
    lines = [
        {"id": row["id"], "condition": name, "answer": chance.choice(replies)} for row in asked for name in conditions
    ]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = "evaluate --model m --dataset fivl-pope --split adversarial --recorded lines.jsonl --output out"
    assert main([*command.split(), "--conditions", ",".join(conditions)]) == 0
    return tmp_path / "out"


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())[1])


def test_a_page_has_all_answers_and_images(evaluated, capsys):
    assert main(["report", "out"]) == 0
    assert "the page is out/report.html" in capsys.readouterr().out
    page, answers = evaluated / "report.html", by_question(read_answers(evaluated / "answers.jsonl"))
    data = data_of(page)
    assert [each["id"] for each in data["questions"]] == [f"scene-3-train-{i}" for i in range(12)]
    assert data["conditions"] == ["original", "removed", "random", "text-only"]
    for question in data["questions"]:
        under = answers[question["id"]]
        assert {name: each["text"] for name, each in question["answers"].items()} == {
            name: answer.answer for name, answer in under.items()
        }
        assert {name: len(images) for name, images in question["images"].items()} == {
            name: int(name != "text-only") for name in under
        }
        assert {name for images in question["images"].values() for name in images} <= set(data["images"])
    assert not (evaluated / "report_images").exists()
    assert "http://" not in page.read_text().replace("http://www.w3.org", "")
    # Each question ends with the benchmark's line, which stands once.
    assert page.read_text().count("Answer the question using a single word or phrase.") == 1


def test_many_images_lie_beside_the_page(evaluated):
    rows = load_rows("fivl-pope", "adversarial")
    (evaluated / "report_images").mkdir()
    (evaluated / "report_images" / "old.jpg").touch()
    data = data_of(write_report(evaluated, rows, embedded=2_000))
    on_disk = {path.stem for path in (evaluated / "report_images").iterdir()}
    named = {name for each in data["questions"] for images in each["images"].values() for name in images}
    assert on_disk | set(data["images"]) == named
    assert len(on_disk) > 10
    few = data_of(write_report(evaluated, rows, questions=5))
    assert len(few["questions"]) == 5
    assert "5 of 12, drawn at random" in " ".join((evaluated / "report.html").read_text().split())


def test_what_cannot_be_shown_is_said(evaluated, rows, capsys):
    write_benchmark(evaluated.parent / "others", "adversarial", as_benchmark(rows[:3], "POPE"))
    assert main(["report", "out", "--dataset", "others"]) == 1
    assert "is about other rows than those of the dataset named" in capsys.readouterr().err
    assert main(["report", "out", "--dataset", "nowhere"]) == 1
    assert "or say --no-images" in capsys.readouterr().err
    assert main(["report", "out", "--no-images"]) == 0
    assert data_of(evaluated / "report.html")["images"] == {}
    lines = (evaluated / "answers.jsonl").read_text().splitlines(True)
    first = json.loads(lines[0])["id"]
    (evaluated / "answers.jsonl").write_text("".join(line for line in lines if json.loads(line)["id"] != first))
    assert main(["report", "out", "--no-images"]) == 1
    assert "reliance.json is about 12 questions, answers.jsonl about 11: run fivl score" in capsys.readouterr().err
    (evaluated / "reliance.json").unlink()
    assert main(["report", "out"]) == 1
    assert "run fivl score out" in capsys.readouterr().err


def right(under, name):
    return name in under and under[name].score >= 0.5


_FILTERS = {
    "all": lambda under: True,
    "right": lambda under: right(under, "original"),
    "wrong": lambda under: not right(under, "original"),
    "without": lambda under: right(under, "original") and right(under, "removed"),
    "lost": lambda under: right(under, "original") and "removed" in under and not right(under, "removed"),
    "gained": lambda under: not right(under, "original") and right(under, "removed"),
    "flips-random": lambda under: "random" in under and right(under, "original") != right(under, "random"),
    "flips-text-only": lambda under: right(under, "original") != right(under, "text-only"),
    "unparsed": lambda under: not all(answer.parsed for answer in under.values()),
}


@needs_browser
def test_filters_find_what_the_table_holds(evaluated):
    from selenium.webdriver.support.select import Select

    page = write_report(evaluated, load_rows("fivl-pope", "adversarial"))
    answers = by_question(read_answers(evaluated / "answers.jsonl"))
    with opened(page, width=420) as driver:

        def listed():
            ids = driver.execute_script("return [...document.querySelectorAll('article')].map(each => each.dataset.id)")
            assert driver.find_element("id", "found").text == f"{len(ids)} of 12"
            return set(ids)

        assert listed() == set(answers)
        sizes = []
        for name, test in _FILTERS.items():
            Select(driver.find_element("id", "show")).select_by_value(name)
            assert listed() == {id for id, under in answers.items() if test(under)}, name
            sizes.append(len(listed()))
        assert 0 < min(sizes) < max(sizes)
        # Together with a category and a search; the address keeps them.
        Select(driver.find_element("id", "category")).select_by_visible_text("kind 1")
        driver.find_element("tag name", "body").send_keys("/")
        driver.switch_to.active_element.send_keys("PERHAPS")
        wanted = {
            id
            for id, under in answers.items()
            if _FILTERS["unparsed"](under)
            and under["original"].category == "kind 1"
            and any("perhaps" in answer.answer for answer in under.values())
        }
        assert listed() == wanted
        driver.refresh()
        assert listed() == wanted
        driver.execute_script("document.activeElement.blur()")
        driver.find_element("tag name", "body").send_keys("j")
        assert driver.switch_to.active_element.get_attribute("data-id") in wanted
        # Nothing is wider than the window, and no answer is more than text.
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert driver.title == "Visual reliance of m"
        images = driver.execute_script(
            "return [...document.images].filter(each => each.complete && !each.naturalWidth).length"
        )
        assert images == 0


@needs_browser
@pytest.mark.parametrize("width", [500, 1600])
def test_the_page_fits_its_window_and_follows_the_colour_scheme(evaluated, width):
    with opened(write_report(evaluated), width=width) as driver:

        def brightness(selector, property):
            script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
            red, green, blue = map(float, re.findall(r"[\d.]+", driver.execute_script(script, selector, property))[:3])
            return 0.3 * red + 0.6 * green + 0.1 * blue

        assert not driver.execute_script("return document.documentElement.scrollWidth > innerWidth")
        for scheme in ("light", "dark"):
            media = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
            text = brightness("article", "color")
            behind = brightness("body", "backgroundColor")
            assert (text > behind) == (scheme == "dark")
            assert abs(text - behind) > 120


@needs_browser
@pytest.mark.slow
def test_five_thousand_questions_are_shown_a_few_at_a_time(evaluated):
    answers = list(read_answers(evaluated / "answers.jsonl"))
    table = AppendedLines(evaluated / "answers.jsonl", "an answer", read=dict, write=asdict)
    table.append([replace(each, id=f"{each.id}-{copy}") for copy in range(450) for each in answers])
    summary = json.loads((evaluated / "reliance.json").read_text())
    write_json(evaluated / "reliance.json", {**summary, "questions": 12 * 451})
    with opened(write_report(evaluated)) as driver:
        assert driver.find_element("id", "found").text == "5,000 of 5,000"

        def shown():
            return driver.execute_script("return document.querySelectorAll('article').length")

        assert 30 <= shown() < 200
        before = shown()
        driver.execute_async_script(
            "scrollTo(0, document.body.scrollHeight); setTimeout(arguments[arguments.length - 1], 500)"
        )
        assert before < shown() < 400
