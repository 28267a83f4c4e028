"""What metric cards and examples show runs as it is pasted, and what is installed is complete."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import families
import pytest
import torch
import transformers as tf
from llava_parts import language_model, projector, save_clip, save_shards, save_tokenizer
from PIL import Image

from fivl_hf.scenes.model import scene_model, scene_processor
from fivl_hf.schema import FEATURES

ROOT = Path(__file__).parents[2]
METRIC_CARDS = sorted((ROOT / "metrics").glob("*/README.md"))


def run(command, cwd, **environment):
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_readme_is_a_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("card", METRIC_CARDS, ids=lambda path: path.parent.name)
def test_metric_cards_run_as_pasted(card):
    (snippet,) = re.findall(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    promised = re.search(r"# (.*)\Z", snippet.strip()).group(1)
    name = re.search(r"load\(\"metrics/(\w+)\"\)", snippet).group(1)
    code = snippet.replace("import evaluate\n", "import evaluate, json\n")
    variable = re.search(r"^(\w+) = evaluate", snippet, re.MULTILINE).group(1)
    code = re.sub(rf"^{variable}\.compute", f"_r = {variable}.compute", code, flags=re.MULTILINE)
    result = json.loads(run([sys.executable, "-c", code + "\nprint(json.dumps(_r))"], ROOT).splitlines()[-1])
    for key, value in result.items():
        assert key in promised or key == "reason", f"{name}: {key} is not described"
        if isinstance(value, int | float):
            assert f"{key} {value}" in promised


@pytest.mark.parametrize("script", ["sft_to_fivl.py", "plain_trainer.py", "plain_loop.py", "llava_paper.py"])
def test_training_examples_run(demo, tmp_path, script):
    arguments = ["--model", demo / "models" / "baseline", "--dataset", demo / "fivl", "--output", tmp_path / "out"]
    run([sys.executable, ROOT / "examples" / script, *arguments, "--max-steps", "2", "--cpu"], tmp_path)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_the_papers_recipe_has_its_hyperparameters(rows, tmp_path, monkeypatch):
    """Those of LLaVA-1.5's second stage (its script finetune.sh) and of the paper; the baseline differs in λ alone."""
    import importlib.util

    import datasets

    spec = importlib.util.spec_from_file_location("llava_paper", ROOT / "examples" / "llava_paper.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    text_only = {**rows[0], "id": "text", "images": [], "key_expressions": [], "masks": []}
    dataset = datasets.Dataset.from_list([*rows[:3], text_only], features=FEATURES)
    made = []

    class Recorder:
        def __init__(self, **arguments):
            made.append(arguments)
            self.train = lambda: None
            self.save_model = lambda _: None

    monkeypatch.setattr(recipe, "FiVLTrainer", Recorder)
    monkeypatch.setattr(recipe, "load_dataset", lambda *_, **__: dataset)
    processor = scene_processor()
    monkeypatch.setattr(
        recipe.LlavaForConditionalGeneration, "from_pretrained", lambda *_, **__: scene_model(processor, 0)
    )
    for weight in ("0.1", "0"):
        arguments = ["--dataset", "d", "--output", str(tmp_path), "--lambda", weight, "--cpu"]
        monkeypatch.setattr(sys, "argv", ["llava_paper.py", *arguments])
        recipe.main()
    ours, baseline = (arguments["args"].to_dict() for arguments in made)
    expected = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 16,
        "learning_rate": 2e-5,
        "weight_decay": 0.0,
        "warmup_steps": 0.03,
        "lr_scheduler_type": "cosine",
        "max_length": 2048,
        "gradient_checkpointing": True,
        "train_sampling_strategy": "group_by_length",
        "vision_loss_weight": 0.1,
        "vision_protocol": "paper",
    }
    assert {name: ours[name] for name in expected} == expected
    assert {name for name in ours if ours[name] != baseline[name]} == {"vision_loss_weight"}
    model, trained = made[0]["model"], made[0]["train_dataset"]
    assert not any(p.requires_grad for p in model.model.vision_tower.parameters())
    assert all(p.requires_grad for p in model.model.multi_modal_projector.parameters())
    assert all(p.requires_grad for p in model.model.language_model.parameters())
    assert min(trained["length"][:3]) > 576 > trained["length"][3] > 5


def test_the_zero3_configuration_fits_the_recipe():
    """Eight GPUs of 16 samples: the 128 of LLaVA-1.5's second stage."""
    import yaml

    config = yaml.safe_load((ROOT / "examples" / "accelerate" / "deepspeed_zero3.yaml").read_text())
    assert config["deepspeed_config"]["zero_stage"] == 3
    assert config["mixed_precision"] == "bf16"
    assert 16 * config["num_processes"] == 128


def test_lora_example_runs(demo, tmp_path):
    arguments = ["--model", demo / "models" / "baseline", "--dataset", demo / "fivl", "--output", tmp_path / "out"]
    run([sys.executable, ROOT / "examples" / "llava_lora.py", *arguments, "--max-steps", "1", "--cpu"], tmp_path)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["multi_modal_projector"]
    from fivl_hf.models import load_model

    assert load_model(tmp_path / "out", device="cpu")[0] is not None


@pytest.mark.parametrize(
    ("script", "family", "saved"),
    [("qwen2_5_vl.py", "Qwen2.5-VL", "adapter_model"), ("smolvlm.py", "SmolVLM", "model")],
)
def test_recipes_of_other_families_run(demo, tmp_path, script, family, saved):
    """The tiny model and processor as a checkpoint of its family would be saved, loaded by name as the recipe does."""
    families.save(family, str(tmp_path / "model"))
    arguments = ["--model", tmp_path / "model", "--dataset", demo / "fivl", "--output", tmp_path / "out"]
    run([sys.executable, ROOT / "examples" / script, *arguments, "--max-steps", "1", "--cpu"], tmp_path)
    assert (tmp_path / "out" / f"{saved}.safetensors").exists()


def test_llava_is_assembled_from_its_parts(tmp_path):
    """Tiny parts in the files of their hub repositories: what comes out answers with their weights."""
    save_tokenizer(tmp_path / "language")
    language, vision = language_model(90), save_clip(tmp_path / "vision")
    (tmp_path / "language" / "config.json").write_text(json.dumps(language.config.to_dict()))
    save_shards(tmp_path / "language", language.state_dict())
    torch.save(published := projector(), tmp_path / "mm_projector.bin")
    parts = ["--language", tmp_path / "language", "--vision", tmp_path / "vision"]
    script = ROOT / "examples" / "llava_assemble.py"
    out = tmp_path / "llava"
    run([sys.executable, script, *parts, "--projector", tmp_path / "mm_projector.bin", "--output", out], tmp_path)

    model = tf.LlavaForConditionalGeneration.from_pretrained(out, dtype=torch.float32)
    pairs = [
        (model.model.multi_modal_projector.linear_2.weight, published["model.mm_projector.2.weight"]),
        (model.model.language_model.layers[1].mlp.up_proj.weight, language.model.layers[1].mlp.up_proj.weight),
        *zip(model.model.vision_tower.parameters(), vision.parameters(), strict=True),
    ]
    for ours, theirs in pairs:
        assert torch.equal(ours, theirs.bfloat16().float())
    loaded = tf.AutoProcessor.from_pretrained(out)
    # What LLaVA-1.5 was trained on: images padded to a square, with the mean colour, and 2,048 tokens.
    assert loaded.image_processor.do_pad
    assert loaded.tokenizer.model_max_length == 2048
    wide = loaded.image_processor(Image.new("RGB", (80, 40), "white"), return_tensors="pt")["pixel_values"][0]
    assert wide.shape == (3, 40, 40)
    assert wide[:, :9].abs().max() < 0.06 < wide[:, 12:28].min()


def test_measuring_example_runs(demo, tmp_path):
    script = ROOT / "examples" / "measure_reliance.py"
    out = run([sys.executable, script, "--model", demo / "models" / "fivl", "--dataset", demo / "fivl"], tmp_path)
    assert "visual_reliance_score" in out
    assert "'layer'" in out


def test_examples_are_short():
    for script in (ROOT / "examples").glob("*.py"):
        assert len(script.read_text().splitlines()) <= 85


def test_a_plain_install_is_complete(tmp_path):
    """A wheel unpacked elsewhere holds the metrics, the builders and the report's page."""
    source = tmp_path / "source"
    ours = ("fivl_hf", "metrics", "dataset_builders", "setup.cfg", "pyproject.toml", "README.md")
    for place in map(ROOT.joinpath, ours):
        copy = shutil.copytree if place.is_dir() else shutil.copy
        (source / place.name).parent.mkdir(exist_ok=True)
        copy(place, source / place.name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    run([*build, tmp_path, source], tmp_path)
    (wheel,) = tmp_path.glob("fivl_hf-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import fivl_hf, fivl_hf.demo.report; from fivl_hf.evaluation.metrics import metric_folders\n"
        "from fivl_hf.dataset_builders.fivl_scenes.fivl_scenes import FivlScenes\n"
        "from importlib.resources import files\n"
        "assert (files('fivl_hf.show') / 'templates' / 'report.html.jinja').is_file()\n"
        "metric = fivl_hf.load_metric('visual_reliance_score')\n"
        "result = metric.compute(predictions=['a'], masked_predictions=['b'], references=[['a']])\n"
        "print(fivl_hf.__file__, sorted(metric_folders()), result['visual_reliance_score'])\n"
    )
    out = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert str(tmp_path / "site") in out
    assert "['head_alignment', 'vision_segmentation', 'visual_reliance_score'] 1.0" in out
