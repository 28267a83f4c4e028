"""``fivl demo``."""

import argparse
import os
from pathlib import Path
from typing import Any

from fivl_hf.cli.options import HelpFormatter, count, positive
from fivl_hf.demo.settings import DemoSettings

__all__ = ["add_demo"]


def add_demo(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="the whole of FiVL on rendered scenes, in minutes",
        description="Makes a dataset of rendered scenes, trains a small LLaVA with and without Vision Modeling, "
        "measures visual reliance, heads and segmentation, and writes report.html and results.json. Running it "
        "again reuses the stages that are finished.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for everything the demo makes")
    parser.add_argument("--seed", type=count, default=0, help="of scenes, weights, order and random boxes")
    parser.add_argument("--steps", type=positive, default=DemoSettings.steps, help="training steps of each model")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    # Nothing the demo needs is on the Hub.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from fivl_hf.demo.run import run_demo

    run_demo(options.output, DemoSettings(seed=options.seed, steps=options.steps))
