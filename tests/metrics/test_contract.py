"""One contract for every metric folder, present and future."""

import doctest
import re
import sys
from pathlib import Path

import evaluate
import pytest
import yaml

import fivl_hf
from fivl_hf.evaluation.metrics import metric_folders

ROOT = Path(__file__).parents[2]


FOLDERS = metric_folders()


SAMPLES = {
    "visual_reliance_score": (
        {"predictions": ["a", "b"], "masked_predictions": ["a", "c"], "references": [["a"], ["b", "d"]]},
        {"visual_reliance_score": 0.5, "accuracy": 1.0, "masked_accuracy": 0.5, "n": 2},
    ),
    "head_alignment": (
        {
            "predictions": [[[[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]], [[[0.0, 1.0], [1.0, 0.0]]]],
            "references": [[0.0, 0.5, 1.0], [0.0, 1.0]],
        },
        {
            "alignment": [[1.0, -1.0]],
            "top_heads": [{"layer": 0, "head": 0, "score": 1.0}, {"layer": 0, "head": 1, "score": -1.0}],
            "n": 2,
        },
    ),
    "vision_segmentation": (
        {"predictions": [[7, 7, 9, 9]], "references": [[1, 0, 0, 0]], "keyword_ids": [7]},
        {"iou": 0.5, "n": 1},
    ),
}


def test_every_folder_is_known_and_has_a_sample():
    folders = {path.name for path in (ROOT / "metrics").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(FOLDERS) == set(SAMPLES)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("how", ["load_metric", "evaluate.load"])
def test_loads_and_computes(name, how, monkeypatch):
    monkeypatch.chdir(ROOT)
    metric = fivl_hf.load_metric(name) if how == "load_metric" else evaluate.load(f"metrics/{name}")
    inputs, expected = SAMPLES[name]
    result = metric.compute(**inputs)
    assert {key: result[key] for key in expected} == expected
    # Added in batches, the result is the same.
    half = len(next(iter(inputs.values()))) // 2 or 1
    for part in (slice(0, half), slice(half, None)):
        batch = {key: value[part] for key, value in inputs.items()}
        if next(iter(batch.values())):
            metric.add_batch(**batch)
    again = metric.compute()
    assert {key: again[key] for key in expected} == expected


@pytest.mark.parametrize("name", FOLDERS)
def test_results_are_plain_numbers_that_can_be_saved(name, tmp_path):
    result = fivl_hf.load_metric(name).compute(**SAMPLES[name][0])
    saved = evaluate.save(tmp_path, **result)
    assert Path(saved).exists()


@pytest.mark.parametrize("name", FOLDERS)
def test_folder_holds_what_a_space_needs(name):
    folder = FOLDERS[name]
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["sdk"] == "gradio"
    assert f"gradio=={front['sdk_version']}" in (ROOT / "constraints.txt").read_text()
    assert (folder / front["app_file"]).is_file()
    assert {"evaluate", "metric"} <= set(front["tags"])
    assert "fivl-hf" in (folder / "requirements.txt").read_text()
    assert f'load_metric("{name}")' in card
    code = (folder / f"{name}.py").read_text()
    assert len(re.findall(r"^class .*evaluate\.(?:Metric|EvaluationModule)\)", code, re.MULTILINE)) == 1
    # evaluate reads imports as text: one module a line, nothing behind it.
    assert not re.search(r"^(?:import .*,|from \.|(?:import|from) .*#)", code, re.MULTILINE)


@pytest.mark.parametrize("name", FOLDERS)
def test_descriptions_say_what_the_numbers_mean(name):
    metric = fivl_hf.load_metric(name)
    assert "1" in metric.description
    assert "0" in metric.description
    for argument in metric.features:
        assert argument in metric.inputs_description


@pytest.mark.parametrize("name", FOLDERS)
def test_the_examples_of_the_docstring_run(name):
    """As evaluate's own tests of its modules do it."""
    module = sys.modules[type(fivl_hf.load_metric(name)).__module__]
    results = doctest.testmod(module)
    assert results.failed == 0
    assert results.attempted > 1


def test_undefined_reliance_is_null_with_a_reason():
    result = fivl_hf.load_metric("visual_reliance_score").compute(
        predictions=["x"], masked_predictions=["y"], references=[["z"]]
    )
    assert result["visual_reliance_score"] is None
    assert "no answer is right" in result["reason"]


def test_vision_segmentation_has_a_prompted_configuration():
    metric = fivl_hf.load_metric("vision_segmentation", config_name="prompted")
    given = {"predictions": [[7, 7, 9, 9]], "references": [[[1, 0, 0, 0], []]], "prompted_ids": [[7, 9]]}
    assert metric.compute(**given) == {"iou": 0.5, "n": 1, "share_found": 0.5, "tokens_per_sample": 2.0}
