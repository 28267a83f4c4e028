"""Model cards of training runs: what a model was trained from, on and with."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

__all__ = [
    "PAPER",
    "on_the_hub",
    "remove_local_names",
    "shown_name",
    "training_card",
    "training_settings",
    "without_local_names",
]

PAPER = "[FiVL](https://arxiv.org/abs/2412.14672)"
_ADAPTER_TAG = "base_model:adapter:"
_ADAPTER = "These are an adapter's weights: `from_pretrained` loads the base model with them where `peft` is installed."
_WHOLE = "The checkpoint is an ordinary one and needs no further package."
_CARD = """---
{front}
---

# {name}

A vision-language model fine-tuned{start} with Vision Modeling of {paper}: besides its text, every image patch
learned to predict the keyword of what it shows. {needs}

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{load_name}")
processor = AutoProcessor.from_pretrained("{load_name}")
```

## Training

Trained with fivl-hf's `FiVLTrainer`.

| | |
|---|---|
{settings}

### Framework versions

{versions}
"""


def training_card(
    name: str,
    *,
    load_name: str,
    base_model: str | None,
    dataset: str | None,
    tags: Sequence[str],
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
    adapter: bool = False,
) -> ModelCard:
    """Return the card of a model trained by FiVLTrainer.

    Args:
        load_name: what ``from_pretrained`` takes.
        settings: what it was trained with, λ first.
        versions: of the packages used.
        adapter: only the weights of an adapter (such as LoRA's) are in the folder.
    """
    data = ModelCardData(
        base_model=base_model if base_model and on_the_hub(base_model) else None,
        datasets=[dataset] if dataset and on_the_hub(dataset) else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="image-text-to-text",
        model_name=name,
        tags=list(tags),
    )
    source = f" from `{shown_name(base_model)}`" if base_model else ""
    rows = f" on `{shown_name(dataset)}`" if dataset else ""
    text = _CARD.format(
        front=data.to_yaml(),
        name=name,
        start=f"{source}{rows}",
        paper=PAPER,
        needs=_ADAPTER if adapter else _WHOLE,
        load_name=load_name,
        settings="\n".join(f"| {key} | {value} |" for key, value in settings.items()),
        versions="\n".join(f"- {package}: {version}" for package, version in versions.items()),
    )
    return ModelCard(text)


def training_settings(args: Any, state: Any) -> dict[str, Any]:
    """Collect what a card tells of a training run: λ first, and every vision option that is not the default.

    Args:
        args: its FiVLConfig.
        state: its TrainerState.
    """
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    schedule, warmup = args.lr_scheduler_type, args.get_warmup_steps(state.max_steps)
    settings: dict[str, Any] = {
        "vision loss weight λ": args.vision_loss_weight,
        "largest mask that supervises": f"{args.vision_max_coverage:.0%} of the patches",
        "learning rate": args.learning_rate,
        "schedule": f"{getattr(schedule, 'value', schedule)}, {warmup} warm-up steps",
        "samples per step": batch,
        "steps": state.global_step,
    }
    named = ("vision_loss_weight", "vision_max_coverage")
    fields = [f for f in dataclasses.fields(args) if f.name.startswith("vision_") and f.name not in named]
    settings |= {f.name: getattr(args, f.name) for f in fields if getattr(args, f.name) != f.default}
    logged = {key: value for entry in state.log_history for key, value in entry.items()}
    names = {"language_loss": "last language loss", "vision_loss": "last vision loss"}
    return settings | {label: f"{logged[key]:.4g}" for key, label in names.items() if key in logged}


def on_the_hub(name: str) -> bool:
    """Return whether a model's or dataset's name can be one on the Hub: no folder of this machine."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def shown_name(name: str) -> str:
    """Return a name on the Hub as it is; of a folder its name, since local paths are not published."""
    return name if on_the_hub(name) else Path(name).resolve().name


def remove_local_names(path: Path) -> None:
    """Remove from a card's front matter, if there is a card, the folders that PEFT writes there."""
    if not path.is_file():
        return
    card = ModelCard.load(path)
    before = str(card)
    card.data = without_local_names(card.data)
    if str(card) != before:
        card.save(path)


def without_local_names(data: Any) -> Any:
    """Return a card's front matter without folders of this machine as base model: the Hub refuses them."""
    if isinstance(data.base_model, str) and not on_the_hub(data.base_model):
        data.base_model = None
    kept = [
        tag for tag in data.tags or () if not tag.startswith(_ADAPTER_TAG) or on_the_hub(tag.removeprefix(_ADAPTER_TAG))
    ]
    data.tags = kept or None
    return data
