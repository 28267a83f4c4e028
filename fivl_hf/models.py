"""Loading a vision-language model and its processor together."""

from pathlib import Path
from typing import Any

__all__ = ["image_token_id", "load_model"]


def load_model(name: str | Path, *, device: str | None = None, dtype: str = "auto") -> tuple[Any, Any]:
    """A model (in evaluation mode) and its processor from a folder or the Hub.

    Args:
        name: folder or Hub id; an adapter's folder works where ``peft`` is installed.
        device: such as ``"cuda"``; the first accelerator if there is one, else the CPU.
        dtype: such as ``"bfloat16"``; ``"auto"`` takes the checkpoint's.

    Raises:
        FileNotFoundError: a path that does not exist.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    if not Path(name).exists() and (str(name).count("/") != 1 or str(name).startswith((".", "/"))):
        raise FileNotFoundError(f"there is no model folder {str(name)!r}")
    if device is None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = accelerator.type if accelerator else "cpu"
    model: Any = AutoModelForImageTextToText.from_pretrained(str(name), dtype=dtype)
    return model.to(device).eval(), AutoProcessor.from_pretrained(str(name))


def image_token_id(config: Any) -> int:
    """The id of visual tokens in ``input_ids`` as the model's code uses it; -1 for a model without."""
    ids = (getattr(config, name, None) for name in ("image_token_id", "image_token_index"))
    return next((token for token in ids if token is not None), -1)
