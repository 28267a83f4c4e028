"""Resuming: weights under other names, and whether a run resumes with the same settings and data."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from fivl_hf.files.atomic import write_json
from fivl_hf.files.results import changed_settings

__all__ = ["changes_since", "load_renamed_weights", "resumed_folder", "write_settings"]

_SETTINGS = "fivl_settings.json"


def resumed_folder(resume_from_checkpoint: str | bool | None, output_dir: str | None) -> str | bool | None:
    """Return what ``Trainer.train`` is to resume from: a command line's "true" and "false" are not folder names.

    Raises:
        FileNotFoundError: a folder that does not exist, or no checkpoint to resume from.
    """
    wanted = resume_from_checkpoint
    if isinstance(wanted, str) and wanted.lower() in ("true", "false") and not Path(wanted).exists():
        wanted = wanted.lower() == "true"
    if isinstance(wanted, str) and not Path(wanted).is_dir():
        raise FileNotFoundError(
            f"resume_from_checkpoint: there is no folder {wanted!r}; name a checkpoint's folder, or say true for the "
            f"last one in {output_dir}"
        )
    if wanted is True and (not output_dir or not Path(output_dir).is_dir() or not get_last_checkpoint(output_dir)):
        raise FileNotFoundError(
            f"resume_from_checkpoint: {output_dir} holds no checkpoint; leave it out to start from the beginning"
        )
    return wanted


def write_settings(folder: str | Path, settings: dict[str, Any]) -> None:
    """Keep what decides the training beside a checkpoint."""
    write_json(Path(folder) / _SETTINGS, settings)


def changes_since(folder: str | Path, settings: dict[str, Any]) -> list[str]:
    """Return how settings differ from those of a checkpoint, a sentence each; nothing where it has none."""
    path = Path(folder) / _SETTINGS
    if not path.is_file():
        return []
    return changed_settings(json.loads(path.read_text(encoding="utf-8")), settings)


def load_renamed_weights(model: Any, folder: str | Path) -> None:
    """Load a model's weights from a checkpoint folder when its file names them otherwise than the model does.

    ``save_pretrained`` writes LLaVA and its kin under the names of older releases, while ``Trainer`` (transformers
    5.23) resumes by the model's own names: it finds none, warns, and goes on from the weights it has.
    ``from_pretrained`` knows both.
    """
    names = _names_in(Path(folder))
    if not names <= set(model.state_dict()):
        saved = type(model).from_pretrained(str(folder), dtype=model.dtype)
        model.load_state_dict(saved.state_dict())


def _names_in(folder: Path) -> set[str]:
    """Return the names of the weights in a folder's safetensors files; empty for adapters and sharded training."""
    index, single = folder / SAFE_WEIGHTS_INDEX_NAME, folder / SAFE_WEIGHTS_NAME
    if index.exists():
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    if single.exists():
        with safe_open(single, framework="pt") as file:
            return set(file.keys())
    return set()
