"""``fivl lmms-eval-path``."""

import argparse
from typing import Any

from fivl_hf.cli.options import HelpFormatter

__all__ = ["add_lmms_eval_path"]


def add_lmms_eval_path(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "lmms-eval-path",
        help="folder of FiVL's tasks for lmms-eval",
        description="Prints the folder of the tasks fivl_pope (adversarial), fivl_pope_popular, fivl_pope_random, "
        "fivl_gqa and fivl_vqav2, and of the group fivl: python -m lmms_eval --include_path $(fivl lmms-eval-path) "
        "--tasks fivl_pope ...",
        epilog="The datasets are the folders fivl-pope, fivl-gqa and fivl-vqav2 of the working directory, or those (on "
        "disk or on the Hub) that the environment variables FIVL_POPE, FIVL_GQA and FIVL_VQAV2 name; FIVL_CONDITIONS "
        "names the conditions.",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> None:
    from fivl_hf.evaluation.integrations.lmms_eval import TASKS

    print(TASKS)
