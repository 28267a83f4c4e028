"""Types and groups of options that commands share."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

__all__ = [
    "ExamplesHelpFormatter",
    "HelpFormatter",
    "add_model_and_rows",
    "count",
    "existing_file",
    "existing_folder",
    "folder",
    "head_position",
    "loaded",
    "number",
    "positive",
    "positive_number",
    "share",
    "shown_name",
    "word",
]


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False, [], "") else super()._get_help_string(action)


class ExamplesHelpFormatter(HelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the lines of examples as they are."""


def add_model_and_rows(parser: argparse.ArgumentParser, *, model_required: bool = True) -> None:
    """Add the options of a command that measures a model on rows."""
    parser.add_argument("--model", required=model_required, default=None, help="model folder or Hub id")
    parser.add_argument("--dataset", required=True, help="row dataset: folder or Hub id")
    parser.add_argument("--dataset-config", default=None, help="the dataset's configuration")
    parser.add_argument("--split", default="test", help="split, slices allowed: test[:200]")
    parser.add_argument("--output", type=folder, required=True, help="folder for the results")
    parser.add_argument("--device", default=None, help="such as cuda or cpu; an accelerator if there is one")
    parser.add_argument("--dtype", default="auto", help="such as bfloat16; the checkpoint's own by default")
    parser.add_argument("--restart", action="store_true", help="replace what another run left in OUTPUT")


@contextmanager
def loaded(options: argparse.Namespace) -> Iterator[tuple[Any, Any, Any, dict[str, Any]]]:
    """Hold the output folder, and load what the options of :func:`add_model_and_rows` name.

    Returns:
        model, processor, rows, and what the results are measured with.
    """
    from fivl_hf.files.locks import locked
    from fivl_hf.files.processes import Processes
    from fivl_hf.models import load_model
    from fivl_hf.storage import load_rows
    from fivl_hf.storage.provenance import provenance

    rows = load_rows(options.dataset, options.split, options.dataset_config)
    processes = Processes.of_this_run()
    # The first process holds the folder for all.
    with locked(options.output) if processes.first else nullcontext():
        device = options.device or processes.device
        model, processor = load_model(options.model, device=device, dtype=options.dtype)
        about = provenance(
            options.model, rows, dataset=options.dataset, split=options.split, config=options.dataset_config
        )
        yield model, processor, rows, about


def shown_name(name: str) -> str:
    """Return a dataset's or model's name for people: a folder's own, or the Hub id."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def positive(text: str) -> int:
    """Read a whole number from 1 up; raises ArgumentTypeError, as all types here do."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def positive_number(text: str) -> float:
    """Read a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def number(text: str) -> float:
    """Read a finite number from 0 up."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number from 0 up, got {text}")
    return value


def folder(text: str) -> Path:
    """Read a folder that exists or can be made."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} exists and is not a folder")
    return path


def word(text: str) -> str:
    """Read a text that is not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a word is needed")
    return text.strip()


def count(text: str) -> int:
    """Read a whole number from 0 up."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {value}")
    return value


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {text}")
    return value


def head_position(text: str) -> tuple[int, int]:
    """Read "LAYER,HEAD"."""
    try:
        layer, head = (int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"LAYER,HEAD such as 14,11, got {text!r}") from error
    return layer, head


def existing_file(text: str) -> Path:
    """Read the path of a file that exists."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path


def existing_folder(text: str) -> Path:
    """Read the path of a folder that exists."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return path
