"""Two processes train as one with the same global batch, also when one of them has no vision target."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_processes.py")


def first_step(path, processes):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*command, SCRIPT, path, str(4 // processes)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(path, weights_only=True)


def test_two_processes_equal_one(tmp_path):
    one, two = (first_step(tmp_path / f"{n}.pt", n) for n in (1, 2))
    for name in ("language_loss", "vision_loss", "vision_token_accuracy", "labelled_patches"):
        assert two["log"][name] == pytest.approx(one["log"][name], rel=1e-4), name
    assert two["log"]["loss"] == pytest.approx(one["log"]["loss"], rel=1e-4)
    assert one["gradients"].keys() == two["gradients"].keys()
    for name, gradient in one["gradients"].items():
        torch.testing.assert_close(two["gradients"][name], gradient, rtol=1e-3, atol=1e-6, msg=name)
