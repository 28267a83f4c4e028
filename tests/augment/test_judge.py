import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from scripted_server import Answer

from fivl_hf.augment.judge import Judged, Judgement, judge_rows, summarize
from fivl_hf.augment.judge_prompts import parse_judgement
from fivl_hf.augment.scenes import scene_rows
from fivl_hf.cli.main import main
from fivl_hf.llm.settings import Spent
from fivl_hf.storage import load_rows, write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged") / "fivl"
    write_dataset(folder, {"train": scene_rows("train", 12)}, title="S", description="S")
    return folder


def image_of(body):
    (image,) = [part for part in body["messages"][1]["content"] if part["type"] == "image_url"]
    data = base64.b64decode(image["image_url"]["url"].split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)


def kind_of(body):
    system = body["messages"][0]["content"]
    return "importance" if "important" in system else "seg1" if "except one region" in system else "seg2"


def honest(body, number):
    """Judges by looking: is there anything but black and grey?"""
    pixels = image_of(body)
    colourful = (pixels.max(axis=2) - pixels.min(axis=2) > 60).sum()
    if kind_of(body) == "importance":
        return Answer('{"important": true, "degree": 8}')
    return Answer(json.dumps({"visible": bool(colourful > 20)}))


def test_the_judge_sees_the_inside_and_the_outside(dataset, serve, settings, tmp_path):
    server = serve(honest)
    rows = load_rows(dataset, "train")
    judged = judge_rows(rows, settings(server), tmp_path / "a.sqlite", samples=10)
    assert len(judged.judgements) == 10
    assert all(j.seg1 and j.important and j.degree == 8 and j.problem is None for j in judged.judgements)
    shares = {kind_of(body): (image_of(body).max(axis=2) < 20).mean() for body in server.bodies}
    assert shares["importance"] < 0.05
    assert shares["seg1"] > 0.8
    assert 0.01 < shares["seg2"] < 0.2
    again = judge_rows(rows, settings(server), tmp_path / "a.sqlite", samples=10)
    assert again.judgements == judged.judgements
    assert (again.spent.requests, again.spent.cached) == (0, 30)


def test_a_judge_that_answers_nonsense_is_counted(dataset, serve, settings, tmp_path):
    server = serve(lambda body, number: Answer("yes!" if kind_of(body) == "seg1" else '{"visible": false}'))
    judged = judge_rows(load_rows(dataset, "train"), settings(server), tmp_path / "a.sqlite", samples=4)
    summary = summarize(judged)
    assert summary["without_usable_reply"] == 4
    assert summary["all"]["seg1"] == {"mean": None, "confidence_interval": None, "n": 0}
    assert summary["all"]["seg2"]["mean"] == 0.0
    assert (
        "seg1: the language model's reply cannot be used: the reply is not valid JSON" in judged.judgements[0].problem
    )
    assert "cannot be used: a degree from 0 to 10" in judged.judgements[0].problem


def test_the_summary_by_hand():
    judgements = [Judgement(str(i), 0, "a", 0.1, True, degree, i < 8, False) for i, degree in enumerate([5] * 10)]
    judgements.append(Judgement("x", 0, "a", 1.0, False, 0, False, True))
    summary = summarize(Judged(judgements, Spent()))
    band = summary["by_mask_coverage"]["5% to 20%"]
    assert band["n"] == 10
    # Wilson's interval of 8 of 10 at 95%.
    assert band["seg1"]["mean"] == 0.8
    assert band["seg1"]["confidence_interval"] == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert band["degree"] == {"mean": 5.0, "confidence_interval": [5.0, 5.0], "n": 10}
    assert summary["by_mask_coverage"]["50% to 100%"]["n"] == 1
    assert summary["by_mask_coverage"]["0% to 5%"]["degree"]["mean"] is None
    assert summary["all"]["important"]["mean"] == pytest.approx(10 / 11)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("seg1", "Yes.", {"seg1": True}),
        ("seg2", "no", {"seg2": False}),
        ("importance", "yes ::: 7", {"important": True, "degree": 7}),
        ("importance", "yes", None),
        ("importance", "yes ::: 11", None),
        ("seg1", "perhaps", None),
    ],
)
def test_replies_in_text(kind, text, expected):
    if expected is None:
        with pytest.raises(ValueError, match="asked for|true or false"):
            parse_judgement(kind, text, "text")
    else:
        assert parse_judgement(kind, text, "text") == expected


def test_the_command_prints_bands_and_goes_on_after_its_budget(dataset, serve, tmp_path, capsys):
    server = serve(honest)
    command = ["judge", "--dataset", str(dataset), "--output", str(tmp_path / "judge"), "--samples", "8"]
    command += ["--model", "m", "--base-url", server.url]
    assert main([*command, "--max-requests", "9", "--concurrency", "1"]) == 1
    assert "budget of 9 requests" in capsys.readouterr().err
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "5% to 20%" in told
    assert "degree 8.00 [8.00, 8.00]" in told
    assert "9 answers from the cache" in told
    assert set(server.asked.values()) == {1}
    assert len((tmp_path / "judge" / "judgements.jsonl").read_text().splitlines()) == 8
    assert json.loads((tmp_path / "judge" / "judge.json").read_text())["all"]["n"] == 8


def test_rows_without_expressions_are_said(dataset, serve, settings, tmp_path):
    rows = load_rows(dataset, "train").map(lambda row: {"key_expressions": []})
    with pytest.raises(ValueError, match="no key expressions to judge"):
        judge_rows(rows, settings(serve(honest)), tmp_path / "a.sqlite")
