"""The script that makes the pretrained start, in small."""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from fivl_hf.scenes.model import free_model, free_processor

SCRIPT = Path(__file__).parents[2] / "examples" / "pretrained_start" / "train.py"


def run(tmp_path):
    sizes = ["--scenes", "64", "--tower-steps", "2", "--language-steps", "1", "--projector-steps", "2"]
    files = ["--batch-size", "16", "--work", str(tmp_path / "work"), "--output", str(tmp_path / "start.safetensors")]
    return subprocess.run(
        [sys.executable, SCRIPT, *sizes, *files], capture_output=True, text=True, check=False, timeout=300
    )


def test_three_stages_make_one_file_and_are_not_made_twice(tmp_path):
    first = run(tmp_path)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "SHA-256" in first.stdout
    path = tmp_path / "start.safetensors"
    assert path.stat().st_size < 3_000_000
    model = free_model(free_processor())
    random = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(load_file(path))
    for part in ("vision_tower", "language_model", "multi_modal_projector"):
        names = [name for name in random if part in name and name.endswith("weight")]
        assert any(not torch.allclose(model.state_dict()[name], random[name], atol=1e-3) for name in names), part
    again = run(tmp_path)
    assert again.stdout == first.stdout
    assert "Projector" in first.stderr
    assert "Projector" not in again.stderr
