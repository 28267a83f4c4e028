"""``inspect eval fivl_hf/vrs`` and ``inspect score``, run for real against a scripted server."""

import base64
import hashlib
import io
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from benchmark_folders import as_benchmark, write_benchmark
from harnesses import PYTHON, needs_harnesses
from PIL import Image
from scripted_server import Answer

from fivl_hf.cli.main import main

pytestmark = [pytest.mark.slow, needs_harnesses]


@pytest.fixture
def server(serve):
    """Answers "yes" to what has no black pixel, and to one of three of the other images; refuses one of seven so."""

    def answer(body, _):
        picture, question = body["messages"][-1]["content"]
        assert question["type"] == "text"
        data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        untouched = pixels.any(axis=-1).all()
        draw = hashlib.sha256(pixels.tobytes()).digest()[0]
        if draw % 7 == 0:
            return Answer("Yes, but I won't.", finish="content_filter")
        if draw % 7 == 1:
            return Answer(refusal="Yes, but I won't.")
        return Answer("Yes, there is." if untouched or draw % 3 == 0 else "no")

    return serve(answer)


def inspect(folder, *arguments, **environment):
    done = subprocess.run(
        [Path(PYTHON).with_name("inspect"), *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1", "INSPECT_DISPLAY": "plain"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def numbers(folder, log):
    header = json.loads(inspect(folder, "log", "dump", "--header-only", log))
    [score] = header["results"]["scores"]
    return {name: each["value"] for name, each in score["metrics"].items()}, score


def test_inspect_finds_what_fivl_evaluate_does(server, rows, tmp_path, monkeypatch):
    write_benchmark(tmp_path / "fivl-pope", "adversarial", as_benchmark(rows[:12], "POPE"))
    # The scripted server has chat completions alone.
    model = ["--model", "openai/gpt-4o", "-M", "responses_api=false"]
    rest = {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": server.url}
    options = ["-T", "dataset=fivl-pope", "-T", "split=adversarial", "-T", "conditions=original,removed,random,kept"]
    inspect(tmp_path, "eval", "fivl_hf/vrs", *model, *options, "--log-dir", "logs", **rest)
    [log] = (tmp_path / "logs").iterdir()
    found, score = numbers(tmp_path, log)
    assert score["params"] == {"scoring": "pope-vlmevalkit"}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    asked = ["--dataset", "fivl-pope", "--split", "adversarial", "--conditions", "original,removed,random,kept"]
    assert main(["evaluate", "--model", "m", "--endpoint", server.url, *asked, "--output", "own"]) == 0
    own = json.loads((tmp_path / "own" / "reliance.json").read_text())
    assert 0 < own["visual_reliance_score"] < 1
    assert sum(each["unparsed"] for each in own["conditions"].values()) > 4  # refused
    for name in ("visual_reliance_score", "accuracy", "masked_accuracy", "random_reliance_score"):
        assert found[name] == own[name]
    assert [found["reliance_low"], found["reliance_high"]] == own["confidence_interval"]
    assert found["reliance_over_random"] == own["over_random"]["value"]

    # Scored again by another parser, without a model: "Yes, there is." is no label to it.
    server.close()
    scorer = ["--scorer", "fivl_hf/visual_reliance", "-S", "scoring=pope-lmms-eval", "--action", "overwrite"]
    inspect(tmp_path, "score", log, *scorer, "--overwrite", OPENAI_API_KEY="x")
    again, score = numbers(tmp_path, log)
    assert score["params"] == {"scoring": "pope-lmms-eval"}
    assert again["accuracy"] == 0
    assert main(["score", "own", "--scorer", "pope-lmms-eval"]) == 0
    assert json.loads((tmp_path / "own" / "reliance.json").read_text())["accuracy"] == 0
