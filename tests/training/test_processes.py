"""Two processes train as one with the same global batch, also when one of them has no vision target."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_processes.py")
CONFIGURATIONS = Path(__file__).parents[2] / "examples" / "accelerate"


VARIANTS = {"equal": {}, "weighted": {"vision_expression_weight": "score"}}


def first_steps(folder, processes, how):
    """The losses and gradients of one step of each variant; what a callback measures."""
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*command, SCRIPT, folder, str(processes), how, json.dumps(VARIANTS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    steps = {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in VARIANTS}
    return steps, json.loads((folder / "reliance.json").read_text())


def test_two_processes_equal_one(tmp_path):
    """With vision targets that weigh the same, and with weights of their own."""
    one, reliance = first_steps(tmp_path / "one", 1, "ddp")
    assert 0.5 < reliance["eval_reliance_accuracy"] < 1
    assert reliance["eval_visual_reliance_score"] > 0
    assert one["equal"]["log"]["vision_loss"] != one["weighted"]["log"]["vision_loss"]
    for how in ("ddp", "fsdp2"):
        two, shared = first_steps(tmp_path / how, 2, how)
        assert shared == reliance, how
        for variant, expected in one.items():
            found = two[variant]
            for name in ("loss", "language_loss", "vision_loss", "vision_token_accuracy", "labelled_patches"):
                assert found["log"][name] == pytest.approx(expected["log"][name], rel=1e-4), (how, variant, name)
            assert expected["gradients"].keys() == found["gradients"].keys()
            assert expected["gradients"]["lm_head.weight"].abs().max() > 1e-3
            for name, gradient in expected["gradients"].items():
                torch.testing.assert_close(
                    found["gradients"][name], gradient, rtol=1e-3, atol=1e-6, msg=f"{how}, {variant}: {name}"
                )


@pytest.mark.parametrize("path", sorted(CONFIGURATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_are_accelerates_own(path):
    """Each is read by accelerate without an unknown or missing field."""
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    kinds = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "deepspeed_zero2": "DEEPSPEED", "deepspeed_zero3": "DEEPSPEED"}
    assert config.distributed_type == kinds[path.stem]
    assert config.num_processes == 8
