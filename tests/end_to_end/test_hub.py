"""Everything that can be pushed, pushed over HTTP to a stand-in Hub and loaded back."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from benchmark_folders import as_benchmark
from huggingface_hub import parse_eval_result_entries

import fivl_hf
from fivl_hf.augment.scenes import scene_rows
from fivl_hf.cli.main import main
from fivl_hf.hub.push import dataset_upload
from fivl_hf.storage import write_dataset

METRICS = {
    "visual_reliance_score": {
        "predictions": ["a", "b"],
        "masked_predictions": ["a", "c"],
        "references": [["a"], ["b", "d"]],
    },
    "head_alignment": {"predictions": [[[[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]]], "references": [[0.0, 0.5, 1.0]]},
    "vision_segmentation": {"predictions": [[7, 7, 9, 9]], "references": [[1, 0, 0, 0]], "keyword_ids": [7]},
}


@pytest.fixture
def python(hub, tmp_path):
    """Run a script as a user of the stand-in Hub; what it prints last, as JSON."""

    def run(script):
        env = {**os.environ, **hub.environment(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_dataset_is_pushed_streamed_and_trained_on_and_the_model_pushed(
    hub, fivl, python, scenes_folder, demo, tmp_path
):
    done = fivl("push", "dataset", scenes_folder, "me/fivl-scenes")
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/datasets/me/fivl-scenes/commit/" in done.stdout
    trained = tmp_path / "trained"
    found = python(
        f"""
import json
from datasets import load_dataset
from fivl_hf import FiVLConfig, FiVLTrainer

whole = load_dataset("me/fivl-scenes")
streamed = load_dataset("me/fivl-scenes", split="train", streaming=True)
ids = [row["id"] for row in streamed]
trainer = FiVLTrainer(
    model={str(demo / "models" / "baseline")!r},
    args=FiVLConfig(
        output_dir={str(trained)!r}, max_steps=2, per_device_train_batch_size=4, logging_steps=1, report_to="none",
        bf16=False, use_cpu=True,
    ),
    train_dataset=streamed,
)
trainer.train()
trainer.save_model()
trainer.create_model_card(dataset_name="me/fivl-scenes")
losses = [entry["vision_loss"] for entry in trainer.state.log_history if "vision_loss" in entry]
print(json.dumps({{"ids": ids, "whole": {{s: list(whole[s]["id"]) for s in whole}}, "losses": losses}}))
"""
    )
    expected = {split: [row["id"] for row in scene_rows(split, 12)] for split in ("train", "validation", "test")}
    assert found["whole"] == expected
    assert found["ids"] == expected["train"]
    assert len(found["losses"]) == 2
    assert all(loss > 0 for loss in found["losses"])

    for command in ("evaluate", "explain"):
        places = ("--model", trained, "--dataset", scenes_folder, "--output", tmp_path / "measured")
        assert main([command, *map(str, places), "--dtype", "float32"]) == 0
    reliance = json.loads((tmp_path / "measured" / "reliance.json").read_text())
    explanation = json.loads((tmp_path / "measured" / "explanation.json").read_text())
    measured = ("--evaluation", tmp_path / "measured", "--explanation", tmp_path / "measured")
    # A random model may have no score; the leaderboard's file is about one.
    given = {**reliance, "visual_reliance_score": 0.25}
    (tmp_path / "measured" / "reliance.json").write_text(json.dumps(given))
    done = fivl("push", "model", trained, "me/fivl-llava", *measured, "--benchmark", "me/fivl-scenes")
    assert done.returncode == 0, done.stderr
    files = hub.repos["models", "me/fivl-llava"].branches["main"]
    assert not {"training_args.bin", "optimizer.pt"} & set(files)
    assert files["head_map.png"] == (tmp_path / "measured" / "head_map.png").read_bytes()
    [entry] = parse_eval_result_entries(yaml.safe_load(files[".eval_results/me__fivl-scenes.yaml"]))
    assert (entry.dataset_id, entry.value) == ("me/fivl-scenes", 0.25)
    assert entry.task_id == "visual_reliance_score_test"
    card = files["README.md"].decode()
    front = yaml.safe_load(card.split("---\n")[1])
    (model,) = front["model-index"]
    metrics = {metric["type"]: metric["value"] for result in model["results"] for metric in result["metrics"]}
    assert metrics["accuracy"] == reliance["accuracy"]
    assert front["datasets"] == ["me/fivl-scenes"]
    assert "| vision loss weight λ | 0.1 |" in card
    best = explanation["best_head"]
    assert f"layer {best['layer']}, head {best['head']}. " in card
    assert "> Pushed with" not in card
    assert str(demo) not in card
    assert card.count('.from_pretrained("me/fivl-llava")') == 2
    same = python(
        f"""
import json, torch
from transformers import AutoModelForImageTextToText, AutoProcessor
there = AutoModelForImageTextToText.from_pretrained("me/fivl-llava").state_dict()
here = AutoModelForImageTextToText.from_pretrained({str(trained)!r}).state_dict()
AutoProcessor.from_pretrained("me/fivl-llava")
print(json.dumps(there.keys() == here.keys() and all(torch.equal(there[name], here[name]) for name in here)))
"""
    )
    assert same is True


def test_a_benchmarks_tasks_and_a_models_results_meet_on_the_hub(hub, fivl, python, demo, tmp_path):
    """The benchmark is pushed with eval.yaml, asked from the Hub, and the model's result names its task."""
    splits = {"adversarial": as_benchmark(list(scene_rows("test", 3)), "POPE", {})}
    write_dataset(tmp_path / "pope", splits, title="FiVL-POPE", description="POPE with evidence.")
    assert fivl("push", "dataset", tmp_path / "pope", "me/fivl-pope").returncode == 0
    tasks = yaml.safe_load(
        python(
            "import json; from huggingface_hub import hf_hub_download as get; "
            'print(json.dumps(open(get("me/fivl-pope", "eval.yaml", repo_type="dataset")).read()))'
        )
    )["tasks"]
    model, measured = demo / "models" / "fivl", tmp_path / "measured"
    asked = ("--dataset", "me/fivl-pope", "--split", "adversarial", "--scorer", "contains", "--output", measured)
    done = fivl("evaluate", "--model", model, *asked)
    assert done.returncode == 0, done.stderr
    reliance = json.loads((measured / "reliance.json").read_text())
    given = {**reliance, "visual_reliance_score": 0.5}
    (measured / "reliance.json").write_text(json.dumps(given))
    done = fivl("push", "model", model, "me/fivl-llava", "--evaluation", measured, "--benchmark", "me/fivl-pope")
    assert done.returncode == 0, done.stderr
    files = hub.repos["models", "me/fivl-llava"].branches["main"]
    [entry] = parse_eval_result_entries(yaml.safe_load(files[".eval_results/me__fivl-pope.yaml"]))
    assert entry.dataset_id == "me/fivl-pope"
    assert [entry.task_id] == [task["id"] for task in tasks if task["split"] == "adversarial"]


def test_metrics_are_pushed_and_loaded_with_the_same_numbers(hub, fivl, python):
    for name in METRICS:
        assert fivl("push", "metric", name, "me", "--requirement", "fivl-hf").returncode == 0
        space = hub.repos["spaces", f"me/{name}"].branches["main"]
        assert set(space) == {"README.md", "app.py", "requirements.txt", f"{name}.py"}
        assert f'evaluate.load("me/{name}")' in space["README.md"].decode()
    found = python(
        f"""
import json, evaluate
print(json.dumps({{name: evaluate.load("me/" + name).compute(**given) for name, given in {METRICS!r}.items()}}))
"""
    )
    local = {name: fivl_hf.load_metric(name).compute(**given) for name, given in METRICS.items()}
    assert found == json.loads(json.dumps(local))


def test_an_interrupted_push_is_repeated_without_sending_twice(hub, fivl, scenes_folder):
    hub.fail_after = 2
    done = fivl("push", "dataset", scenes_folder, "me/fivl-scenes")
    assert done.returncode == 1
    assert "push again, what has arrived is not sent twice" in done.stderr
    assert "Traceback" not in done.stderr
    assert not hub.repos["datasets", "me/fivl-scenes"].branches["main"]
    sent = set(hub.objects)
    assert len(sent) == 2
    hub.fail_after = None
    hub.uploads.clear()
    assert fivl("push", "dataset", scenes_folder, "me/fivl-scenes").returncode == 0
    assert not set(hub.uploads) & sent
    files = dataset_upload(scenes_folder, "me/x").files
    assert len(hub.repos["datasets", "me/fivl-scenes"].branches["main"]) == len(files)


def test_a_new_build_replaces_the_old_files(hub, fivl, tmp_path):
    for seed in (1, 2):
        write_dataset(tmp_path / "set", {"train": scene_rows("train", 4, seed)}, title="S", description="D")
        assert fivl("push", "dataset", tmp_path / "set", "me/set", "--private").returncode == 0
    repo = hub.repos["datasets", "me/set"]
    assert repo.private
    assert sorted(repo.branches["main"]) == sorted(
        ["README.md", *(f"data/{path.name}" for path in (tmp_path / "set" / "data").iterdir())]
    )


def test_old_weights_make_way(hub, fivl, demo, tmp_path):
    """One file, then two: the old one would be loaded before the new ones."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    shutil.copytree(demo / "models" / "baseline", tmp_path / "one")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "two", max_shard_size="100KB")
    AutoProcessor.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    assert len(list((tmp_path / "two").glob("*.safetensors"))) > 1
    for folder in ("one", "two"):
        assert fivl("push", "model", tmp_path / folder, "me/model").returncode == 0
    shard = sorted((tmp_path / "two").glob("*.safetensors"))[0]
    shard.rename(tmp_path / "elsewhere")
    assert f"names {shard.name}, which is not there" in fivl("push", "model", tmp_path / "two", "me/model").stderr
    (tmp_path / "elsewhere").rename(shard)
    files = hub.repos["models", "me/model"].branches["main"]
    assert {name for name in files if "safetensors" in name} == {
        path.name for path in (tmp_path / "two").iterdir() if "safetensors" in path.name
    }


def test_a_branch_is_made_for_a_revision(hub, fivl, scenes_folder):
    assert fivl("push", "dataset", scenes_folder, "me/scenes", "--revision", "v2").returncode == 0
    repo = hub.repos["datasets", "me/scenes"]
    assert not repo.branches["main"]
    assert "README.md" in repo.branches["v2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["augment", "--input", "INPUT", "--images", "FOLDER", "--output", "FOLDER/out", "--extractor", "offline"],
            "detector 'IDEA-Research/grounding-dino-tiny' is not on this machine and cannot be downloaded "
            "(http://127.0.0.1:9 cannot be reached): give a folder that holds it, or ground by masks that exist",
        ),
        (["evaluate", "--model", "me/x", "--dataset", "SCENES", "--output", "FOLDER/out"], "model 'me/x' is not on"),
        (["evaluate", "--model", "MODEL", "--dataset", "me/x", "--output", "FOLDER/out"], "dataset 'me/x' is not on"),
        (["explain", "--model", "MODEL", "--dataset", "me/x", "--output", "FOLDER/out"], "dataset 'me/x' is not on"),
        (["show", "me/x"], "dataset 'me/x' is not on this machine, and the Hub cannot be reached"),
        (["train", "--model_name_or_path", "me/x", "--dataset_name", "SCENES", "--bf16", "false"], "model 'me/x' is"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_without_a_network_nothing_is_tried_for_minutes(fivl, scenes_folder, demo, tmp_path, arguments, message):
    (tmp_path / "input.json").write_text(
        '[{"id": "1", "image": "x.jpg", "conversations": [{"from": "human", "value": "<image>\\nWhat?"}, '
        '{"from": "gpt", "value": "A cat."}]}]'
    )
    places = {
        "INPUT": str(tmp_path / "input.json"),
        "FOLDER": str(tmp_path),
        "SCENES": str(scenes_folder),
        "MODEL": str(demo / "models" / "fivl"),
    }
    given = [re.sub("|".join(places), lambda found: places[found[0]], argument) for argument in arguments]
    done = fivl(*given, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Retry" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_without_rights(fivl):
    done = fivl("push", "metric", "visual_reliance_score", "somebody", "--requirement", "fivl-hf")
    assert done.returncode == 1
    assert "may not write to spaces/somebody/visual_reliance_score" in done.stderr


def test_a_trainer_pushes_itself(hub, python, tmp_path):
    """TRL's own way, with our card."""
    assert python(
        f"""
from datasets import Dataset
from fivl_hf import FiVLConfig, FiVLTrainer
from fivl_hf.scenes.model import scene_model, scene_processor
from fivl_hf.augment.scenes import scene_rows
from fivl_hf.schema import FEATURES

processor = scene_processor()
args = FiVLConfig(
    output_dir={str(tmp_path / "out")!r}, max_steps=1, report_to="none", bf16=False, use_cpu=True, save_strategy="no",
    push_to_hub=True, hub_model_id="me/trained", vision_loss_weight=0.3,
)
trainer = FiVLTrainer(
    model=scene_model(processor, seed=0, hidden_size=32, text_layers=2, vision_layers=1), args=args,
    train_dataset=Dataset.from_list(list(scene_rows("train", 4)), features=FEATURES), processing_class=processor,
)
trainer.train()
trainer.push_to_hub(dataset_name="me/fivl-scenes")
print(1)
"""
    )
    card = hub.repos["models", "me/trained"].branches["main"]["README.md"].decode()
    assert 'from_pretrained("me/trained")' in card
    assert "| vision loss weight λ | 0.3 |" in card


def test_rows_of_the_hub_are_browsed_where_they_are(fivl, python, scenes_folder):
    assert fivl("push", "dataset", scenes_folder, "me/fivl-scenes").returncode == 0
    found = python(
        """
import json
from fivl_hf.show.row_browser import RowBrowser
from fivl_hf.storage.parquet_files import ParquetRows, split_files

files = split_files("me/fivl-scenes", "train")
browser = RowBrowser(ParquetRows(files), "scenes")
browser.wait()
shown = browser.act({"search": "ring", "sort": "largest mask first"})
print(json.dumps({"address": files[0], "rows": len(browser.rows), "ready": shown["ready"], "html": shown["html"]}))
"""
    )
    assert found["address"].startswith("hf://datasets/me/fivl-scenes")
    assert found["rows"] == 12
    assert found["ready"]
    assert "of 12 rows" in found["html"]
