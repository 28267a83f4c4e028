"""One training of the small scene model, as the demo, the ablations and the end-to-end tests run it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fivl_hf.scenes.model import scene_model, scene_processor
from fivl_hf.training.config import FiVLConfig
from fivl_hf.training.trainer import FiVLTrainer

__all__ = ["train_on_scenes"]


def train_on_scenes(
    train_dataset: Dataset,
    output: Path,
    *,
    vision_loss_weight: float,
    seed: int = 0,
    steps: int = 1200,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    on_step: Callable[[int], None] | None = None,
    **options: Any,
) -> None:
    """Train from random weights and save model, processor and ``log.json``.

    The same seed gives the same weights and the same order of rows, whatever λ is.

    Args:
        train_dataset: rows of scenes.
        on_step: told the number of each finished step.
        options: further fields of :class:`FiVLConfig`.
    """
    processor = scene_processor()
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
        model=scene_model(processor, seed),
        args=config,
        train_dataset=train_dataset,
        processing_class=processor,
        callbacks=[_StepTeller(on_step)] if on_step else None,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(output))
    (output / "log.json").write_text(json.dumps(trainer.state.log_history, indent=1), encoding="utf-8")


class _StepTeller(TrainerCallback):
    def __init__(self, on_step: Callable[[int], None]) -> None:
        self.on_step = on_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.on_step(state.global_step)
