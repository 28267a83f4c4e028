"""Loading a vision-language model and its processor together, and knowing its weights again."""

from functools import cache
from pathlib import Path
from typing import Any

from fivl_hf.files.fingerprints import content_fingerprint

__all__ = [
    "existing_folder",
    "hub_is_reachable",
    "hub_options",
    "image_token_id",
    "load_model",
    "torch_dtype",
    "usable_device",
    "uses_cross_attention",
    "weights_fingerprint",
    "why_unreachable",
    "without_adapter",
]

_HUB_SECONDS = 5.0
_WEIGHTS = ("*.safetensors", "*.bin")


def load_model(
    name: str | Path, *, device: str | None = None, dtype: str = "auto", attn_implementation: str | None = None
) -> tuple[Any, Any]:
    """Load a model (in evaluation mode) and its processor from a folder or the Hub.

    Args:
        name: folder or Hub id; an adapter's folder works where ``peft`` is installed.
        device: such as ``"cuda"``; the first accelerator if there is one, else the CPU.
        dtype: such as ``"bfloat16"``; ``"auto"`` takes the checkpoint's.
        attn_implementation: such as ``"sdpa"`` or ``"flash_attention_2"``; transformers' choice if None.

    Raises:
        FileNotFoundError: a path that does not exist, or a Hub model that cannot be reached.
        ValueError: a device, dtype or attention implementation that does not exist, damaged weights, or a checkpoint
            of LLaVA's own code.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig

    options = hub_options(name, "model")
    if device is None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = accelerator.type if accelerator else "cpu"
    usable_device(device)
    if dtype != "auto":
        torch_dtype(dtype)
    try:
        if "mm_vision_tower" in PreTrainedConfig.get_config_dict(str(name), **options)[0]:
            raise ValueError(
                f"model {str(name)!r} is a checkpoint of LLaVA's own code, which transformers does not load: `fivl "
                f"convert {name} FOLDER` makes one that it does"
            )
        model: Any = AutoModelForImageTextToText.from_pretrained(
            str(name), dtype=dtype, attn_implementation=attn_implementation, **options
        )
        processor = AutoProcessor.from_pretrained(str(name), **options)
    except OSError as error:
        raise FileNotFoundError(f"model {str(name)!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    except SafetensorError as error:
        raise ValueError(
            f"model {str(name)!r} cannot be loaded: a *.safetensors file of it is truncated or corrupt ({error}); save "
            "or download it again"
        ) from error
    return model.to(device).eval(), processor


def weights_fingerprint(name: str | Path) -> str | None:
    """Return a digest of a model's weights, the same for a folder and for its copy on the Hub.

    Args:
        name: folder, or Hub id of a model that was loaded here before.

    Returns:
        None if no weights are at hand.
    """
    folder = Path(name)
    if not folder.is_dir():
        try:
            folder = next(iter(_cached_configs(name))).parent
        except (ValueError, StopIteration):
            return None
    files = {path for pattern in _WEIGHTS for path in folder.glob(pattern) if path.name != "training_args.bin"}
    return content_fingerprint(files) if files else None


def usable_device(device: str) -> str:
    """``device`` itself; raises ValueError if nothing can be put there."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def torch_dtype(name: str) -> Any:
    """Return the ``torch.dtype`` of a name such as ``"bfloat16"``; raises ValueError if there is none."""
    import torch

    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype must be 'auto' or one of torch's, such as 'bfloat16', got {name!r}")
    return dtype


def existing_folder(name: str | Path, kind: str) -> str | Path:
    """``name`` itself, if it is a folder that exists or may be a Hub id.

    Raises:
        FileNotFoundError: it can only be a path, and there is nothing there.
    """
    could_be_on_the_hub = str(name).count("/") <= 1 and not str(name).startswith((".", "/", "~"))
    if not Path(name).exists() and not could_be_on_the_hub:
        raise FileNotFoundError(f"there is no {kind} folder {str(name)!r}")
    return name


def hub_options(name: str | Path, kind: str, instead: str = "") -> dict[str, Any]:
    """Return options for ``from_pretrained``: where the Hub cannot be reached, what was loaded before is taken at once.

    Args:
        name: folder or Hub id.
        kind: of the model, for messages.
        instead: what else could be done without it.

    Raises:
        FileNotFoundError: a folder that does not exist, or a Hub id that is not on this machine while the Hub cannot
            be reached.
    """

    existing_folder(name, kind)
    if Path(name).exists() or hub_is_reachable():
        return {}
    try:
        if _cached_configs(name):
            return {"local_files_only": True}
    except ValueError as error:
        raise FileNotFoundError(f"there is no {kind} folder {str(name)!r}") from error
    raise FileNotFoundError(
        f"{kind} {str(name)!r} is not on this machine and cannot be downloaded ({why_unreachable()}): give a folder "
        "that holds it" + (f", or {instead}" if instead else "")
    )


def _cached_configs(name: str | Path) -> list[Path]:
    """Find a Hub model's configuration files in the cache; raises ValueError for a name that cannot be on the Hub."""
    from huggingface_hub import try_to_load_from_cache

    # HFValidationError is a ValueError.
    paths = [try_to_load_from_cache(str(name), file) for file in ("config.json", "adapter_config.json")]
    return [Path(path) for path in paths if isinstance(path, str)]


def why_unreachable() -> str:
    """Say why the Hub cannot be used, where :func:`hub_is_reachable` is False."""
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else f"{constants.ENDPOINT} cannot be reached"


@cache
def hub_is_reachable() -> bool:
    """Return whether the Hub answers; cached, because libraries retry for minutes."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.is_offline_mode():
        return False
    try:
        return bool(get_session().head(constants.ENDPOINT, timeout=_HUB_SECONDS).status_code < 500)
    except (httpx2.TransportError, OSError):
        return False


def without_adapter(model: Any) -> Any:
    """Return the transformers model inside a PEFT model, with the adapter in its layers; another model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def image_token_id(config: Any) -> int:
    """Return the id of visual tokens in ``input_ids`` as the model's code uses it; -1 for a model without.

    Models that look at the image through cross-attention have none: their image token only says where it belongs.
    """
    if uses_cross_attention(config):
        return -1
    ids = (getattr(config, name, None) for name in ("image_token_id", "image_token_index"))
    return next((token for token in ids if token is not None), -1)


def uses_cross_attention(config: Any) -> bool:
    """Return whether the language model looks at the image through cross-attention layers (Mllama)."""
    return bool(getattr(config.get_text_config(), "cross_attention_layers", None))
