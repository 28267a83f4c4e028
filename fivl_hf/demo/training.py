"""One training of a small scene model, as the demo, the ablations and the end-to-end tests run it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fivl_hf.scenes.model import free_model, free_processor, pretrained_model, scene_model, scene_processor
from fivl_hf.training.config import FiVLConfig
from fivl_hf.training.trainer import FiVLTrainer

__all__ = ["Start", "starting_model", "train_on_scenes"]

Start = Literal["aligned", "random", "pretrained"]


def train_on_scenes(
    train_dataset: Dataset,
    output: Path,
    *,
    vision_loss_weight: float,
    start: Start = "aligned",
    seed: int = 0,
    steps: int = 1200,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    on_step: Callable[[int], None] | None = None,
    **options: Any,
) -> None:
    """Train and save model, processor and ``log.json``.

    The same seed gives the same weights and the same order of rows, whatever λ is.

    Args:
        train_dataset: rows of scenes.
        start: see :func:`starting_model`.
        on_step: told the number of each finished step.
        options: further fields of :class:`FiVLConfig`.
    """
    model, processor = starting_model(start, seed)
    defaults: dict[str, Any] = {
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(100, steps // 10),
        "weight_decay": 0.01,
        "adam_beta2": 0.99,
        "max_length": None,
        "bf16": False,
        "use_cpu": True,  # too small to gain from an accelerator, and the same everywhere
        "activation_checkpointing": False,
        "logging_steps": max(1, steps // 40),
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": on_step is not None,
        "dataloader_pin_memory": False,
    }
    config = FiVLConfig(
        output_dir=str(output),
        vision_loss_weight=vision_loss_weight,
        seed=seed,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        **{**defaults, **options},
    )
    trainer = FiVLTrainer(
        model=model,
        args=config,
        train_dataset=train_dataset,
        processing_class=processor,
        callbacks=[_StepTeller(on_step)] if on_step else None,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(output))
    (output / "log.json").write_text(json.dumps(trainer.state.log_history, indent=1), encoding="utf-8")


def starting_model(start: Start, seed: int) -> tuple[Any, Any]:
    """Return a model and its processor.

    Args:
        start: "aligned", random weights for patch-aligned scenes; "random", the same for free scenes; "pretrained",
            LLaVA-1.5's stage 2, with a trained vision tower, which stays frozen, projector and language model.
    """
    if start == "aligned":
        processor = scene_processor()
        return scene_model(processor, seed), processor
    processor = free_processor()
    if start == "random":
        return free_model(processor, seed), processor
    model = pretrained_model(processor)
    model.model.vision_tower.requires_grad_(False)
    return model, processor


class _StepTeller(TrainerCallback):
    def __init__(self, on_step: Callable[[int], None]) -> None:
        self.on_step = on_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.on_step(state.global_step)
