import yaml
from benchmark_folders import as_benchmark

from fivl_hf.storage import write_dataset
from fivl_hf.storage.eval_files import eval_yaml, task_id


def test_a_benchmark_says_what_the_hub_needs(rows, tmp_path):
    splits = {"adversarial": as_benchmark(rows[:2], "POPE"), "popular": as_benchmark(rows[2:4], "POPE")}
    write_dataset(tmp_path / "pope", splits, title="FiVL-POPE", description="POPE's questions\nwith evidence.")
    found = yaml.safe_load((tmp_path / "pope" / "eval.yaml").read_text())
    assert list(found) == ["name", "description", "evaluation_framework", "tasks"]
    assert (found["name"], found["evaluation_framework"]) == ("FiVL-POPE", "fivl-hf")
    assert found["description"].startswith("POPE's questions with evidence. ")
    assert found["tasks"] == [
        {"id": f"visual_reliance_score_{split}", "config": "default", "split": split}
        for split in ("adversarial", "popular")
    ]
    # Conversations are not a benchmark; files of an earlier dataset go.
    write_dataset(tmp_path / "pope", {"train": rows[:2]}, title="Scenes", description="")
    assert not (tmp_path / "pope" / "eval.yaml").exists()


def test_questions_without_evidence_are_no_task():
    tasks = yaml.safe_load(eval_yaml("T", "D", {"default": ["test"], "without_evidence": ["test"]}))["tasks"]
    assert [task["config"] for task in tasks] == ["default"]


def test_a_configuration_is_part_of_a_tasks_id():
    assert task_id("test", "default") == task_id("test") == "visual_reliance_score_test"
    assert task_id("test", "balanced") == "visual_reliance_score_balanced_test"
