"""A trainer's first step, taken apart."""

import pytest
import torch
from transformers import set_seed
from trl import SFTConfig

from fivl_hf.scenes.model import CHAT_TEMPLATE

# The scenes' template with generation markers.
MARKED = CHAT_TEMPLATE.replace(
    " {{ block['text'] }}{% endif %}",
    "{% if message['role'] == 'assistant' %}{% generation %} {{ block['text'] }}</s>{% endgeneration %}"
    "{% else %} {{ block['text'] }}{% endif %}{% endif %}",
).replace("{% if message['role'] == 'assistant' %}</s>{% endif %}", "")


def sft_config(config):
    """The same options as an SFTConfig."""
    options = {k: v for k, v in config.to_dict().items() if not k.startswith("vision_") and not k.endswith("_token")}
    return SFTConfig(**options)


def first_batch(trainer):
    return next(iter(trainer.get_train_dataloader()))


def loss_and_gradients(trainer):
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


def assert_same(a, b, **tolerance):
    assert a[0] == pytest.approx(b[0], rel=tolerance.get("rtol", 0), abs=1e-12)
    assert a[1].keys() == b[1].keys()
    for name in a[1]:
        torch.testing.assert_close(a[1][name], b[1][name], rtol=tolerance.get("rtol", 0), atol=tolerance.get("atol", 0))


def checkpointing(folder, steps):
    """Options of a short training that can be resumed: a checkpoint every two steps, and a steady learning rate."""
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "save_strategy": "steps",
        "save_steps": 2,
        "lr_scheduler_type": "constant",
    }


def trained_losses(trainer, resume=None):
    """Train, and return the logged losses."""
    trainer.train(resume_from_checkpoint=resume)
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
