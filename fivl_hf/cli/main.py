"""The ``fivl`` command: the long jobs, each on any row dataset and model."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from fivl_hf.cli.agreement import add_agreement, add_annotations, add_filter
from fivl_hf.cli.annotate import add_annotate
from fivl_hf.cli.augment import add_augment
from fivl_hf.cli.build import add_build
from fivl_hf.cli.convert import add_convert
from fivl_hf.cli.demo import add_demo
from fivl_hf.cli.evaluate import add_evaluate
from fivl_hf.cli.explain import add_explain
from fivl_hf.cli.explore import add_explore
from fivl_hf.cli.ground import add_ground
from fivl_hf.cli.judge import add_judge
from fivl_hf.cli.knockout import add_knockout
from fivl_hf.cli.lmms_eval_path import add_lmms_eval_path
from fivl_hf.cli.push import add_push
from fivl_hf.cli.report import add_report
from fivl_hf.cli.score import add_compare, add_score
from fivl_hf.cli.segment import add_segment
from fivl_hf.cli.show import add_show

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``fivl`` with the given arguments (the command line's if None); returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["train"]:
        return _guarded(_train, arguments[1:])
    options = _parser().parse_args(arguments)
    return _guarded(options.run, options)


def _guarded(command: Any, *args: Any) -> int:
    """Run a command; an error that the user can fix is one message, not a traceback."""
    try:
        command(*args)
    except (ValueError, OSError, ImportError) as error:
        print(f"fivl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fivl: interrupted; what is finished is kept", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fivl",
        description="FiVL: datasets with image evidence, and models trained, evaluated and explained by it.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_demo(commands)
    add_augment(commands)
    add_judge(commands)
    add_annotate(commands)
    add_annotations(commands)
    add_agreement(commands)
    add_filter(commands)
    add_build(commands)
    add_show(commands)
    add_push(commands)
    commands.add_parser(
        "train",
        add_help=False,
        help="fine-tune a model with Vision Modeling (all of TRL's flags; see fivl train --help)",
    )
    add_convert(commands)
    add_evaluate(commands)
    add_score(commands)
    add_compare(commands)
    add_report(commands)
    add_lmms_eval_path(commands)
    add_explore(commands)
    add_explain(commands)
    add_knockout(commands)
    add_ground(commands)
    add_segment(commands)
    return parser


def _train(arguments: list[str]) -> None:
    from fivl_hf.training.runner import train_from_arguments

    train_from_arguments(arguments)
