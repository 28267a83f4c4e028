"""Two processes train as one with the same global batch, also when one of them has no vision target."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_processes.py")
CONFIGURATIONS = Path(__file__).parents[2] / "examples" / "accelerate"


def first_step(path, processes, how, **options):
    """The losses and gradients of one step."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*command, SCRIPT, path, str(processes), how, json.dumps(options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("options", [{}, {"vision_expression_weight": "score"}], ids=["equal", "weighted"])
def test_two_processes_equal_one(tmp_path, options):
    one = first_step(tmp_path / "one.pt", 1, "ddp", **options)
    for how in ("ddp", "fsdp2"):
        two = first_step(tmp_path / f"{how}.pt", 2, how, **options)
        for name in ("loss", "language_loss", "vision_loss", "vision_token_accuracy", "labelled_patches"):
            assert two["log"][name] == pytest.approx(one["log"][name], rel=1e-4), (how, name)
        assert one["gradients"].keys() == two["gradients"].keys()
        assert one["gradients"]["lm_head.weight"].abs().max() > 1e-3
        for name, gradient in one["gradients"].items():
            torch.testing.assert_close(two["gradients"][name], gradient, rtol=1e-3, atol=1e-6, msg=f"{how}: {name}")


@pytest.mark.parametrize("path", sorted(CONFIGURATIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_are_accelerates_own(path):
    """Each is read by accelerate without an unknown or missing field."""
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    kinds = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "deepspeed_zero2": "DEEPSPEED", "deepspeed_zero3": "DEEPSPEED"}
    assert config.distributed_type == kinds[path.stem]
    assert config.num_processes == 8
