"""Everything that can be pushed, pushed over HTTP to a stand-in Hub and loaded back."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub_server import HubServer

import fivl_hf
from fivl_hf.augment.scenes import scene_rows
from fivl_hf.cli.main import main
from fivl_hf.hub.measured_cards import Measured, measured_card, mismatches
from fivl_hf.hub.push import dataset_upload, metric_upload, model_upload
from fivl_hf.storage import write_dataset
from fivl_hf.training.cards import training_card

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
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture
def fivl(hub, tmp_path):
    """Run ``fivl`` as a user of the stand-in Hub; returns the finished process."""

    def run(*arguments, token=None, **environment):
        command = [sys.executable, "-m", "fivl_hf", *map(str, arguments)]
        env = {**os.environ, **hub.environment(tmp_path / "home", token), **environment}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return run


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


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "fivl-scenes"
    assert main(["build", "fivl_scenes", "--limit", "12", "--output", str(folder), "--workers", "1"]) == 0
    return folder


def test_dataset_is_pushed_streamed_and_trained_on_and_the_model_pushed(hub, fivl, python, scenes, demo, tmp_path):
    done = fivl("push", "dataset", scenes, "me/fivl-scenes")
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
        common = ("--model", trained, "--dataset", scenes, "--output", tmp_path / "measured", "--dtype", "float32")
        assert main([command, *map(str, common)]) == 0
    reliance = json.loads((tmp_path / "measured" / "reliance.json").read_text())
    explanation = json.loads((tmp_path / "measured" / "explanation.json").read_text())
    measured = ("--evaluation", tmp_path / "measured", "--explanation", tmp_path / "measured")
    done = fivl("push", "model", trained, "me/fivl-llava", *measured)
    assert done.returncode == 0, done.stderr
    files = hub.repos["models", "me/fivl-llava"].branches["main"]
    assert not {"training_args.bin", "optimizer.pt"} & set(files)
    assert files["head_map.png"] == (tmp_path / "measured" / "head_map.png").read_bytes()
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


def test_an_interrupted_push_is_repeated_without_sending_twice(hub, fivl, scenes):
    hub.fail_after = 2
    done = fivl("push", "dataset", scenes, "me/fivl-scenes")
    assert done.returncode == 1
    assert "push again, what has arrived is not sent twice" in done.stderr
    assert "Traceback" not in done.stderr
    assert not hub.repos["datasets", "me/fivl-scenes"].branches["main"]
    sent = set(hub.objects)
    assert len(sent) == 2
    hub.fail_after = None
    hub.uploads.clear()
    assert fivl("push", "dataset", scenes, "me/fivl-scenes").returncode == 0
    assert not set(hub.uploads) & sent
    assert len(hub.repos["datasets", "me/fivl-scenes"].branches["main"]) == len(dataset_upload(scenes, "me/x").files)


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


def test_a_branch_is_made_for_a_revision(hub, fivl, scenes):
    assert fivl("push", "dataset", scenes, "me/scenes", "--revision", "v2").returncode == 0
    repo = hub.repos["datasets", "me/scenes"]
    assert not repo.branches["main"]
    assert "README.md" in repo.branches["v2"]


def test_dry_run_lists_and_sends_nothing(hub, fivl, scenes):
    done = fivl("push", "dataset", scenes, "me/scenes", "--dry-run", token="")
    assert done.returncode == 0
    for name, size in dataset_upload(scenes, "me/scenes").sizes():
        assert f"{size:>14,}  {name}" in done.stdout
    assert not hub.requests


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": ""}, "no Hub token: run `hf auth login`"),
        ({"token": "hf_wrong"}, "does not know your token"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
)
def test_what_goes_wrong_is_said_in_one_sentence(fivl, options, message):
    done = fivl("push", "metric", "visual_reliance_score", "me", "--requirement", "fivl-hf", **options)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


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
def test_without_a_network_nothing_is_tried_for_minutes(fivl, scenes, demo, tmp_path, arguments, message):
    (tmp_path / "input.json").write_text(
        '[{"id": "1", "image": "x.jpg", "conversations": [{"from": "human", "value": "<image>\\nWhat?"}, '
        '{"from": "gpt", "value": "A cat."}]}]'
    )
    places = {
        "INPUT": str(tmp_path / "input.json"),
        "FOLDER": str(tmp_path),
        "SCENES": str(scenes),
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


def test_what_is_not_whole_is_not_pushed(scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "half")
    file = sorted((tmp_path / "half" / "data").glob("train*"))[0]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"{file.name} is truncated or not a Parquet file"):
        dataset_upload(tmp_path / "half", "me/x")
    file.unlink()
    with pytest.raises(ValueError, match="split train has 0 rows, but its card says 12"):
        dataset_upload(tmp_path / "half", "me/x")
    with pytest.raises(ValueError, match=r"holds no README.md"):
        dataset_upload(tmp_path, "me/x")
    (tmp_path / "README.md").write_text("# Something else")
    with pytest.raises(ValueError, match="not a dataset card of fivl-hf"):
        dataset_upload(tmp_path, "me/x")
    with pytest.raises(ValueError, match="holds no model"):
        model_upload(tmp_path, "me/x")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no weights"):
        model_upload(tmp_path, "me/x")
    (tmp_path / "model.safetensors").write_bytes(b"\x10" + b"\0" * 100)
    with pytest.raises(ValueError, match=r"model.safetensors is not a complete safetensors file"):
        model_upload(tmp_path, "me/x")


def test_a_space_installs_this_package_from_where_it_is(fivl):
    done = fivl("push", "metric", "head_alignment", "me")
    assert done.returncode == 2
    assert "the following arguments are required: --requirement" in done.stderr
    files = dict(metric_upload("head_alignment", "me", "fivl-hf @ git+https://example.org/fivl-hf").files)
    assert files["requirements.txt"].decode().strip() == "fivl-hf @ git+https://example.org/fivl-hf"


def test_names_are_checked(scenes):
    for wrong in ("scenes", "me/a b", "me/x/y", "me/.."):
        with pytest.raises(ValueError, match="name"):
            dataset_upload(scenes, wrong)
    with pytest.raises(ValueError, match="push it to me/visual_reliance_score"):
        metric_upload("visual_reliance_score", "me/vrs", "fivl-hf")
    with pytest.raises(ValueError, match="no metric named 'bleu'"):
        metric_upload("bleu", "me", "fivl-hf")


def test_a_card_of_somebody_else_keeps_its_text_and_results_are_not_added_twice():
    loading = 'X.from_pretrained("llava-hf/llava-1.5-7b-hf")'
    text = f"---\nlicense: mit\ntags:\n- mine\n---\n\n# Mine\n\n{loading}\n"
    measured = Measured(reliance={"visual_reliance_score": None, "accuracy": 0.0, "n": 3})
    once = measured_card(text, "me/x", measured)
    assert measured_card(once, "me/x", measured) == once
    after = measured_card(once + "\n## Notes\n\nMine, too.\n", "me/x", measured)
    assert "Mine, too." in after
    assert after.count("Measured with fivl-hf") == 1
    front = yaml.safe_load(once.split("---\n")[1])
    assert front["license"] == "mit"
    assert front["tags"] == ["fivl", "mine"]
    assert loading in once
    assert once.count("Measured with fivl-hf") == 1


def test_results_of_another_kind_are_refused(tmp_path, capsys, demo):
    model = demo / "models" / "baseline"
    assert main(["push", "model", str(model), "me/x", "--dry-run", "--evaluation", str(tmp_path)]) == 1
    assert f"there is no {tmp_path / 'reliance.json'}" in capsys.readouterr().err
    Path(tmp_path / "reliance.json").write_text("{}")
    assert main(["push", "model", str(model), "me/x", "--dry-run", "--evaluation", str(tmp_path)]) == 1
    assert "holds no visual_reliance_score" in capsys.readouterr().err
    Path(tmp_path / "reliance.json").write_text('{"visual_reliance_score": "high"}')
    assert main(["push", "model", str(model), "me/x", "--dry-run", "--evaluation", str(tmp_path)]) == 1
    assert "visual_reliance_score must be a number or null" in capsys.readouterr().err
    for content, message in (
        ('{"visual_reliance_score": 0.5, "confidence_interval": [0.1]}', "confidence_interval must be two numbers"),
        ('{"visual_reliance_score": 0.5, "accu', "reliance.json is not valid JSON"),
    ):
        Path(tmp_path / "reliance.json").write_text(content)
        assert main(["push", "model", str(model), "me/x", "--dry-run", "--evaluation", str(tmp_path)]) == 1
        assert message in capsys.readouterr().err
    Path(tmp_path / "explanation.json").write_text('{"top_heads": [], "best_head": {"layer": 1}}')
    assert main(["push", "model", str(model), "me/x", "--dry-run", "--explanation", str(tmp_path)]) == 1
    assert "best_head must have layer, head and score" in capsys.readouterr().err


def test_results_of_another_model_are_refused(demo, capsys):
    """Each model's own results are accepted, those of the other only with --force, which the card tells."""
    push = ["push", "model", str(demo / "models" / "baseline"), "me/x", "--dry-run"]
    own, other = (str(demo / "measurements" / name) for name in ("baseline", "fivl"))
    assert main([*push, "--evaluation", own, "--explanation", own]) == 0
    card = capsys.readouterr().out
    assert "# me/x" in card
    assert "Visual Reliance Score" in card
    assert "Pushed with" not in card
    for options in (["--evaluation", other], ["--explanation", other], ["--evaluation", own, "--explanation", other]):
        assert main([*push, *options]) == 1
        assert "was measured with other weights (fivl)" in capsys.readouterr().err
    assert main([*push, "--evaluation", other, "--force"]) == 0
    assert "> Pushed with `--force`: the evaluation was measured with other weights (fivl)." in capsys.readouterr().out


def test_results_without_a_fingerprint_of_another_version_or_of_other_rows_are_refused(demo):
    folder = demo / "models" / "baseline"
    found = json.loads((demo / "measurements" / "baseline" / "reliance.json").read_text())
    assert mismatches(folder, Measured(found, found)) == []
    bare = {key: value for key, value in found.items() if key != "weights_fingerprint"}
    assert mismatches(folder, Measured(bare)) == ["the evaluation does not say which weights it was measured with"]
    assert "with fivl-hf 0.0.1, this is" in mismatches(folder, Measured({**found, "fivl_hf_version": "0.0.1"}))[0]
    assert "different rows" in mismatches(folder, Measured(found, {**found, "rows_fingerprint": "0"}))[0]


def test_an_adapter_of_a_base_model_that_nobody_has_is_refused(tmp_path, demo):
    (tmp_path / "adapter_model.safetensors").write_bytes(
        (demo / "models" / "baseline" / "model.safetensors").read_bytes()
    )
    adapter = tmp_path / "adapter_config.json"
    for base, message in ((str(demo), "which nobody else has"), (None, "names no base model")):
        adapter.write_text(json.dumps({"base_model_name_or_path": base} if base else {}))
        with pytest.raises(ValueError, match=message):
            model_upload(tmp_path, "me/x")
    adapter.write_text(json.dumps({"base_model_name_or_path": "llava-hf/llava-1.5-7b-hf"}))
    assert model_upload(tmp_path, "me/x").card.startswith("---")


def test_an_adapters_card(tmp_path):
    """A base model's folder is named nowhere, and PEFT's part has a heading of its own."""
    (tmp_path / "base").mkdir()
    options = {"load_name": "x", "dataset": None, "tags": ["a"], "settings": {}, "versions": {"trl": "1"}}
    card = training_card("x", base_model=str(tmp_path / "base"), adapter=True, **options)
    assert card.data.base_model is None
    assert card.data.library_name == "peft"
    assert "where `peft` is installed" in card.text
    assert "needs no further package" not in card.text
    assert "\n\n### Framework versions\n\n- trl: 1" in card.text
    assert training_card("x", base_model="me/base", **options).data.base_model == "me/base"


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
