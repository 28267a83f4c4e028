import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from fivl_hf.hub.eval_results import eval_results_file

RELIANCE = {
    "dataset": "me/fivl-pope",
    "split": "popular",
    "dataset_config": None,
    "visual_reliance_score": 0.43219,
    "confidence_interval": [0.4, 0.46],
    "n": 1500,
    "scoring": "pope-vlmevalkit",
}


def test_a_score_goes_to_its_benchmarks_task():
    path, content = eval_results_file(RELIANCE)
    assert path == ".eval_results/me__fivl-pope.yaml"
    [entry] = parse_eval_result_entries(yaml.safe_load(content))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("me/fivl-pope", "visual_reliance_score_popular", 0.4322)
    assert entry.notes == "fivl-hf; 1,500 questions, scored by pope-vlmevalkit, 95% interval 0.400 to 0.460"


def test_what_nobody_can_know_is_left_out(tmp_path):
    folder = {**RELIANCE, "dataset": str(tmp_path)}
    assert eval_results_file(folder) is None
    assert eval_results_file({**RELIANCE, "visual_reliance_score": None}) is None
    path, content = eval_results_file(folder, "you/pope")
    assert path == ".eval_results/you__pope.yaml"
    assert yaml.safe_load(content)[0]["dataset"]["id"] == "you/pope"
    with pytest.raises(ValueError, match="a benchmark on the Hub is YOU/NAME, got 'pope'"):
        eval_results_file(folder, "pope")
