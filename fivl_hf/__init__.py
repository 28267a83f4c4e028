"""FiVL for the Hugging Face ecosystem: data, training, evaluation and explanation by image evidence.

Nothing heavy is imported until it is used: ``import fivl_hf`` loads neither torch nor transformers.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "FiVLConfig": "fivl_hf.training.config",
    "FiVLLlavaForConditionalGeneration": "fivl_hf.training.modeling",
    "FiVLTrainer": "fivl_hf.training.trainer",
    "load_metric": "fivl_hf.evaluation.metrics",
    "token_boxes": "fivl_hf.geometry",
    "vision_modeling_loss": "fivl_hf.training.targets",
}

__all__ = [
    "FiVLConfig",
    "FiVLLlavaForConditionalGeneration",
    "FiVLTrainer",
    "load_metric",
    "token_boxes",
    "vision_modeling_loss",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fivl_hf' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
