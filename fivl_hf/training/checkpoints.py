"""Loading a checkpoint whose weights have other names in the file than in the model."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

__all__ = ["load_renamed_weights"]


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
    """Names of the weights in a folder's safetensors files; empty if there are none (adapters, sharded training)."""
    index, single = folder / SAFE_WEIGHTS_INDEX_NAME, folder / SAFE_WEIGHTS_NAME
    if index.exists():
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    if single.exists():
        with safe_open(single, framework="pt") as file:
            return set(file.keys())
    return set()
