"""FiVL's tasks for lmms-eval: their documents and metrics, and runs of lmms-eval itself."""

import importlib
import json
import math
import os
import re
import subprocess
from dataclasses import replace

import families
import numpy as np
import pytest
import yaml
from benchmark_folders import as_benchmark, own_answers, write_benchmark
from datasets import Dataset
from harnesses import PYTHON, needs_harnesses

from fivl_hf.cli.main import main
from fivl_hf.evaluation.integrations import lmms_eval
from fivl_hf.evaluation.integrations.shared import METRICS
from fivl_hf.evaluation.plan import Plan
from fivl_hf.evaluation.summary import summarize
from fivl_hf.evaluation.table import Answer
from fivl_hf.files.json_stream import json_lines
from fivl_hf.schema import BENCHMARK_FEATURES


@pytest.fixture
def asked(rows):
    return Dataset.from_list(as_benchmark(rows[:6], answers={rows[0]["id"]: ["Red."]}), features=BENCHMARK_FEATURES)


def test_documents_are_the_plans_requests(asked, monkeypatch):
    monkeypatch.setattr(lmms_eval, "_CONDITIONS", ("removed", "random", "kept", "text-only"))
    docs = lmms_eval.gqa_docs(asked)
    plan = list(Plan(asked, lmms_eval._CONDITIONS))
    assert [(doc["id"], doc["condition"]) for doc in docs] == [(each.id, each.condition) for each in plan]
    assert len(docs) == 6 * 5
    for doc, request in zip(docs, plan, strict=True):
        assert lmms_eval.doc_to_text(doc) == request.messages[-1]["content"]
        shown, wanted = lmms_eval.doc_to_visual(doc), request.open_images()
        assert len(shown) == (doc["condition"] != "text-only")
        assert all(np.array_equal(a, b) for a, b in zip(shown, wanted, strict=True))
        [message] = lmms_eval.doc_to_messages(doc)
        assert [block["type"] for block in message["content"]] == ["image"] * len(shown) + ["text"]


def test_what_is_seen_is_in_the_tasks_configuration(asked, monkeypatch):
    monkeypatch.setattr(lmms_eval, "gqa_metadata", {})

    def digest(rows):
        lmms_eval.gqa_docs(rows)
        return dict(lmms_eval.gqa_metadata)

    def moved(row):
        return {**row, "key_expressions": [{**each, "boxes": [[0, 0, 5, 5]]} for each in row["key_expressions"]]}

    first = digest(asked)
    assert digest(asked) == first
    assert digest(Dataset.from_list([moved(row) for row in asked], features=BENCHMARK_FEATURES)) != first


def test_metrics_are_the_summarys(asked):
    docs = lmms_eval.gqa_docs(asked)
    replies = ["red", "blue", "yes"]
    items = [lmms_eval.process_results(doc, [replies[number % 3]]) for number, doc in enumerate(docs)]
    answers = [
        Answer(doc["id"], doc["condition"], "", (), "", item["accuracy"]["value"], picture=doc["picture"])
        for doc, item in zip(docs, items, strict=True)
    ]
    expected = summarize(answers)
    found = {name: getattr(lmms_eval, name)([item[name] for item in items]) for name in METRICS}
    assert expected["accuracy"] == pytest.approx(1 / 6)
    assert found["visual_reliance_score"] == expected["visual_reliance_score"] == 1.0
    assert [found["reliance_low"], found["reliance_high"]] == expected["confidence_interval"]
    assert found["random_reliance_score"] == expected["random_reliance_score"]
    nothing_right = summarize([replace(answer, score=0.0) for answer in answers])
    assert nothing_right["visual_reliance_score"] is None
    wrong = [{**item["accuracy"], "value": 0.0} for item in items]
    assert math.isnan(lmms_eval.visual_reliance_score(wrong))


def test_the_yaml_files_name_what_exists(capsys):
    def named(loader, node):
        module, _, name = node.value.rpartition(".")
        return getattr(importlib.import_module(module), name)

    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", named)
    assert main(["lmms-eval-path"]) == 0
    assert capsys.readouterr().out.strip() == str(lmms_eval.TASKS)
    read = {path.stem: yaml.load(path.read_text(), Loader=loader) for path in lmms_eval.TASKS.iterdir()}
    group = read.pop("fivl")
    assert set(group["task"]) < set(read)
    assert {metric["metric"] for metric in read.pop("_fivl_common")["metric_list"]} == set(METRICS)
    assert all(task["task"] == name and task["include"] == "_fivl_common" for name, task in read.items())
    assert read["fivl_pope"]["dataset_path"] == "fivl-pope"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, rows):
    """A working directory with a model and benchmarks."""
    path = tmp_path_factory.mktemp("lmms-eval")
    families.save("LLaVA-1.5, crop", str(path / "model"))
    processor, model = families.make("LLaVA-1.5, crop")
    answers = own_answers(model, processor, rows)
    write_benchmark(path / "fivl-gqa", "validation", as_benchmark(rows, "GQA", answers))
    write_benchmark(path / "fivl-vqav2", "validation", as_benchmark(rows, "VQAv2", answers))
    write_benchmark(path / "fivl-pope", "adversarial", as_benchmark(rows, "POPE"))
    moved = [
        {**row, "key_expressions": [{**each, "boxes": [[0, 0, 5, 5]]} for each in row["key_expressions"]]}
        for row in as_benchmark(rows, "GQA", answers)
    ]
    write_benchmark(path / "moved", "validation", moved)
    return path


@pytest.fixture(scope="module")
def run(folder):
    """Runs lmms-eval and returns its metrics by task, and what it printed."""

    def start(task, *arguments, processes=1, **environment):
        launcher = [PYTHON] if processes == 1 else [PYTHON, "-m", "torch.distributed.run", "--nproc_per_node=2"]
        options = {
            "model": "llava_hf",
            "model_args": "pretrained=model,device_map=cpu,dtype=float32",
            "include_path": lmms_eval.TASKS,
            "tasks": task,
            "batch_size": 1,
            "device": "cpu",
            "output_path": f"out-{len(list(folder.iterdir()))}",
        }
        given = [str(text) for key, value in options.items() for text in (f"--{key}", value)]
        done = subprocess.run(
            [*launcher, "-m", "lmms_eval", *given, *arguments],
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        output = folder / options["output_path"]
        [results] = output.rglob("*_results.json")
        return json.loads(results.read_text())["results"], done.stdout, output

    return start


@pytest.mark.slow
@needs_harnesses
def test_lmms_eval_finds_what_fivl_score_does(run, folder, monkeypatch):
    results, _, output = run("fivl_gqa", "--log_samples")
    found = {key.partition(",")[0]: value for key, value in results["fivl_gqa"].items()}
    [samples] = output.rglob("*samples*.jsonl")
    assert len(list(json_lines(samples))) == 24 * 3
    monkeypatch.chdir(folder)
    command = "evaluate --model llava --dataset fivl-gqa --split validation --output scored --recorded"
    assert main([*command.split(), str(samples)]) == 0
    assert main(["score", "scored"]) == 0
    scored = json.loads((folder / "scored" / "reliance.json").read_text())
    assert scored["visual_reliance_score"] > 0.3
    for name in ("visual_reliance_score", "accuracy", "masked_accuracy", "random_reliance_score"):
        assert found[name] == scored[name]
    assert [found["reliance_low"], found["reliance_high"]] == scored["confidence_interval"]
    assert found["reliance_over_random"] == scored["over_random"]["value"]
    # What one process finds, two do.
    both, _, _ = run("fivl_gqa", processes=2)
    assert both["fivl_gqa"] == results["fivl_gqa"]


@pytest.mark.slow
@needs_harnesses
def test_lmms_evals_limit_group_and_cache(run):
    def hits(printed):
        return [int(number) for number in re.findall(r"ResponseCache stats: (\d+) hits", printed)]

    limited, _, _ = run("fivl_gqa", "--limit", "6")
    assert limited["fivl_gqa"]["accuracy,none"] in (0.0, 0.5, 1.0)
    results, printed, _ = run("fivl", "--use_cache", "cache")
    assert {"fivl_pope", "fivl_gqa", "fivl_vqav2"} <= set(results)
    assert math.isnan(results["fivl_pope"]["visual_reliance_score,none"])
    assert hits(printed) == [0]
    again, printed, _ = run("fivl", "--use_cache", "cache")
    assert hits(printed) == [3 * 24 * 3]
    assert again["fivl_gqa"] == results["fivl_gqa"]
    # Other boxes are other images, of which nothing is known.
    moved, printed, _ = run("fivl_gqa", "--use_cache", "cache", FIVL_GQA="moved")
    assert hits(printed) == [0]
    assert moved["fivl_gqa"]["masked_accuracy,none"] != results["fivl_gqa"]["masked_accuracy,none"]
