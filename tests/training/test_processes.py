"""Two processes train as one with the same global batch, also when one of them has no vision target."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_processes.py")


def first_step(path, processes, how, **options):
    """The losses of a plain gradient step of 0.1, and the weights it leads to: equal steps mean equal gradients."""
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
        assert one["weights"].keys() == two["weights"].keys()
        for name, weight in one["weights"].items():
            torch.testing.assert_close(two["weights"][name], weight, rtol=1e-4, atol=1e-6, msg=f"{how}: {name}")
