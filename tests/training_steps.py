"""A trainer's first step, taken apart."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed
from trl import SFTConfig

from fivl_hf import FiVLConfig
from fivl_hf.scenes.model import CHAT_TEMPLATE

# The scenes' template with generation markers.
MARKED = CHAT_TEMPLATE.replace(
    " {{ block['text'] }}{% endif %}",
    "{% if message['role'] == 'assistant' %}{% generation %} {{ block['text'] }}</s>{% endgeneration %}"
    "{% else %} {{ block['text'] }}{% endif %}{% endif %}",
).replace("{% if message['role'] == 'assistant' %}</s>{% endif %}", "")


def sft_config(config: FiVLConfig) -> SFTConfig:
    """The same options as an SFTConfig."""
    options = {k: v for k, v in config.to_dict().items() if not k.startswith("vision_") and not k.endswith("_token")}
    return SFTConfig(**options)


def first_batch(trainer: Any) -> dict[str, torch.Tensor]:
    """Return what the trainer's data loader gives first."""
    return next(iter(trainer.get_train_dataloader()))


def loss_and_gradients(trainer: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the trainer's own first step."""
    model = trainer.model
    set_seed(0)
    model.train()
    model.zero_grad()
    batches, items = trainer.get_batch_samples(
        iter(trainer.get_train_dataloader()), trainer.args.gradient_accumulation_steps, torch.device("cpu")
    )
    trainer.current_gradient_accumulation_steps = len(batches)
    loss = sum(trainer.training_step(model, batch, items) for batch in batches)
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(
    a: tuple[float, dict[str, torch.Tensor]], b: tuple[float, dict[str, torch.Tensor]], **tolerance: float
) -> None:
    """Compare loss and gradients; exactly, unless ``rtol`` or ``atol`` are given."""
    assert a[0] == pytest.approx(b[0], rel=tolerance.get("rtol", 0), abs=1e-12)
    assert a[1].keys() == b[1].keys()
    for name in a[1]:
        torch.testing.assert_close(a[1][name], b[1][name], rtol=tolerance.get("rtol", 0), atol=tolerance.get("atol", 0))


def checkpointing(folder: Path, steps: int) -> dict[str, Any]:
    """Options of a short training that can be resumed: a checkpoint every two steps, and a steady learning rate."""
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "save_strategy": "steps",
        "save_steps": 2,
        "lr_scheduler_type": "constant",
    }


def trained_losses(trainer: Any, resume: Any = None) -> list[float]:
    """Train, and return the logged losses."""
    trainer.train(resume_from_checkpoint=resume)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
