"""Texts that would take minutes, and pages that show what strangers wrote."""

from functools import partial

from limits import limited

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.evaluation.scoring import normalize_answer
from fivl_hf.evaluation.summary import summarize
from fivl_hf.evaluation.table import ORIGINAL, RANDOM, REMOVED, Answer
from fivl_hf.keywords import lemmas, noun_phrases, nouns
from fivl_hf.show.row_pages import write_rows


def test_long_words_are_tagged_at_once():
    for letters in ("a" * 20_000, "ab" * 10_000, "Donaudampfschifffahrt" * 900):
        for work in (nouns, lemmas, noun_phrases):
            limited(partial(work, f"A {letters} on a table."), seconds=3, megabytes=200)
    assert nouns(f"the {'x' * 3_000}house beside the car")[-1] == "car"


def test_many_words_are_tagged_at_once():
    limited(partial(noun_phrases, "A red car. " * 2_000), seconds=20, megabytes=300)


def test_punctuation_is_stripped_at_once():
    for text in ("." * 300_000 + "x", "x" + " ." * 300_000, "?!" * 300_000):
        limited(partial(normalize_answer, text), seconds=3, megabytes=200)


def test_a_category_of_its_own_for_every_question():
    answers = [
        Answer(str(i), condition, "What?", ("a",), "a", 1.0, category=f"c{i}")
        for i in range(20_000)
        for condition in (ORIGINAL, REMOVED, RANDOM)
    ]
    summary = limited(partial(summarize, answers, resamples=100), seconds=30, megabytes=500)
    assert len(summary["by_category"]) == 50


def test_pages_show_what_rows_say_as_text(tmp_path):
    (row,) = scene_rows("train", 1)
    said = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
    row["messages"] = [{**turn, "content": said} for turn in row["messages"]]
    row["key_expressions"], row["masks"] = [], []
    row["id"] = row["source"] = said
    write_rows(tmp_path / "rows.html", [row], said)
    page = (tmp_path / "rows.html").read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
