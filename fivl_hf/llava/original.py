"""Checkpoints of LLaVA's own code (``LlavaLlamaForCausalLM``), such as ``Intel/fivl-vm``, converted for transformers.

Such a folder holds a LLaMA whose state dict has the projector (``model.mm_projector.*``) and sometimes the vision tower
(``model.vision_tower.vision_tower.*``) inside, and a config that names the vision tower (``mm_vision_tower``).
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from fivl_hf.files.json_stream import parse_json
from fivl_hf.files.managed_folders import replaced_files, require_own_folder
from fivl_hf.llava.assembling import assemble_llava, llama_tokenizer, projector_weights
from fivl_hf.models import hub_options, torch_dtype

__all__ = ["convert_llava"]

_PROJECTOR, _TOWER = "model.mm_projector.", "model.vision_tower.vision_tower."
# Older versions of transformers saved these with the weights.
_CONSTANTS = ("rotary_emb.inv_freq", "embeddings.position_ids")
# Settings of LLaVA-1.5; other values are other architectures.
_EXPECTED = {
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_use_im_start_end": False,
    "image_aspect_ratio": "pad",
}


def convert_llava(
    source: str | Path, output: Path, *, vision: str | Path | None = None, dtype: torch.dtype | None = None
) -> None:
    """Convert a checkpoint of LLaVA's own code to a folder that ``LlavaForConditionalGeneration`` loads.

    Args:
        source: folder or Hub id.
        output: folder to write; an earlier conversion there is replaced.
        vision: folder or Hub id of the vision tower; the one that the checkpoint's config names if not given.
        dtype: of the converted weights; the checkpoint's own if not given.

    Raises:
        FileNotFoundError: the checkpoint or the vision tower is not here and cannot be downloaded.
        FileExistsError: the output folder holds something else.
        ValueError: a checkpoint of another layout, with missing or additional weights.
    """
    if Path(source).is_dir() and Path(source).resolve() == output.resolve():
        raise ValueError(f"{output} is the checkpoint itself: choose another folder for the converted model")
    require_own_folder(output, "model")
    folder = _local(source, "model")
    config = _config(folder)
    tokenizer = llama_tokenizer(folder)
    dtype = dtype or torch_dtype(str(config.get("dtype") or config.get("torch_dtype") or "bfloat16"))
    tensors = _tensors(folder)
    parts = {prefix: {n: t for n, t in tensors.items() if n.startswith(prefix)} for prefix in (_PROJECTOR, _TOWER)}
    projector = {name: value.to(dtype) for name, value in projector_weights(parts[_PROJECTOR], folder).items()}
    text = {name: value for name, value in tensors.items() if not name.startswith((_PROJECTOR, _TOWER))}
    llama = LlamaConfig.from_dict({name: value for name, value in config.items() if name != "model_type"})
    language = _loaded(LlamaForCausalLM, llama, text, folder, dtype)
    place = _vision_folder(vision, config)
    # A vision tower inside the checkpoint may have been fine-tuned: it wins over the one that the config names.
    tower = {name.removeprefix(_TOWER): value for name, value in parts[_TOWER].items()}
    clip: Any = CLIPVisionModel
    tower_model = (
        _loaded(clip, CLIPVisionConfig.from_pretrained(place), tower, folder, dtype)
        if tower
        else clip.from_pretrained(place, dtype=dtype)
    )
    with replaced_files(output, kind="model", last="config.json") as scratch:
        assemble_llava(language, tokenizer, tower_model, projector, scratch)


def _local(name: str | Path, kind: str) -> Path:
    """Return the folder of a model, downloaded if it is a Hub id."""
    if Path(name).is_file():
        raise ValueError(f"{name} is a file: give the {kind}'s folder, or a Hub id")
    options = hub_options(name, kind)
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    # Not the weights of other frameworks.
    patterns = ["*.json", "*.safetensors", "*.bin", "*.model", "*.txt"]
    return Path(snapshot_download(str(name), allow_patterns=patterns, **options))


def _vision_folder(vision: str | Path | None, config: dict[str, Any]) -> Path:
    if vision is not None:
        return _local(vision, "vision tower")
    try:
        return _local(config["mm_vision_tower"], "vision tower")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; --vision names another place for it") from error


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json: it is not a model's folder")
    try:
        config = parse_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(config, dict) or "mm_vision_tower" not in config:
        raise ValueError(
            f"{path} names no mm_vision_tower: it is not a checkpoint of LLaVA's own code (transformers may load it "
            "as it is)"
        )
    for name, expected in _EXPECTED.items():
        if config.get(name, expected) != expected:
            raise ValueError(f"{path}: {name} is {config[name]!r}, but only LLaVA-1.5's {expected!r} is known")
    return config


def _loaded(model_class: Any, config: Any, tensors: dict[str, torch.Tensor], folder: Path, dtype: torch.dtype) -> Any:
    """Return a model of a class with these weights.

    Raises:
        ValueError: weights are missing, additional or of another shape.
    """
    model, loaded = model_class.from_pretrained(
        None, config=config, state_dict=tensors, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
    )
    problems = {
        "missing": sorted(loaded["missing_keys"]),
        "additional": sorted(loaded["unexpected_keys"]),
        "of another shape": sorted(str(entry[0]) for entry in loaded["mismatched_keys"]),
    }
    if any(problems.values()):
        listed = "; ".join(f"{what} {_some(names)}" for what, names in problems.items() if names)
        raise ValueError(f"{folder} is not a complete checkpoint of LLaVA-1.5: {listed}")
    return model


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return a folder's weights, left on disk until they are used; constants that were saved with them are left out.

    Raises:
        FileNotFoundError: there are none.
        ValueError: a file is damaged or holds other things than tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    paths = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no *.safetensors and no pytorch_model*.bin")
    tensors: dict[str, torch.Tensor] = {}
    for path in paths:
        try:
            if path.suffix == ".bin":
                tensors |= torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            else:
                tensors |= load_file(path)
        except (RuntimeError, SafetensorError, pickle.UnpicklingError, TypeError) as error:
            raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}; download it again") from error
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(_CONSTANTS)}
