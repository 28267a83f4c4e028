"""One optimizer step of FiVLTrainer against SFTTrainer's on the same batch. Aim: at most 1.05 times.

Also reading and collating rows: FiVL's collator against TRL's own.
"""

import tempfile
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from table import interleaved_medians, publish
from trl import SFTConfig, SFTTrainer

from fivl_hf import FiVLConfig, FiVLTrainer
from fivl_hf.augment.scenes import scene_rows
from fivl_hf.scenes.model import scene_model, scene_processor
from fivl_hf.schema import FEATURES

BATCH = 32


def trainers(hidden: int, folder: str) -> tuple[Any, Any]:
    """An SFTTrainer and a FiVLTrainer of the same small LLaVA on the same rows."""
    processor = scene_processor()
    data = Dataset.from_list(list(scene_rows("train", 2 * BATCH)), features=FEATURES)
    options: dict[str, Any] = {
        "output_dir": folder,
        "per_device_train_batch_size": BATCH,
        "bf16": False,
        "use_cpu": True,
        "activation_checkpointing": False,
        "report_to": "none",
        "max_length": None,
        "dataloader_pin_memory": False,
    }
    sizes: dict[str, Any] = {"hidden_size": hidden, "heads": 4}
    common: dict[str, Any] = {"train_dataset": data, "processing_class": processor}
    return (
        SFTTrainer(scene_model(processor, **sizes), SFTConfig(**options), **common),
        FiVLTrainer(scene_model(processor, **sizes), FiVLConfig(**options), **common),
    )


def step(trainer: Any, batch: dict[str, torch.Tensor]) -> None:
    """Forward, backward and update on one batch, as the training loop does them."""
    trainer.current_gradient_accumulation_steps = 1
    items = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    trainer.training_step(trainer.model, dict(batch), items)
    trainer.optimizer.step()
    trainer.model.zero_grad()


def collate(trainer: Any, rows: Dataset) -> None:
    """Read a batch of rows, as the data loader does, and collate it."""
    trainer.data_collator([rows[i] for i in range(BATCH)])


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for hidden in (96, 256):
        with tempfile.TemporaryDirectory() as folder:
            sft, fivl = trainers(hidden, folder)
            for trainer in (sft, fivl):
                trainer.create_optimizer_and_scheduler(100)
                trainer.model.train()
            batch = next(iter(fivl.get_train_dataloader()))
            plain = {k: v for k, v in batch.items() if k != "vision_labels"}
            steps = interleaved_medians(
                {"sft": partial(step, sft, plain), "fivl": partial(step, fivl, batch)}, repeats=15
            )
            needed = {"sft": ["images", "messages"], "fivl": ["id", "images", "messages", "key_expressions", "masks"]}
            collation = interleaved_medians(
                {
                    "sft": partial(collate, sft, sft.train_dataset.select_columns(needed["sft"])),
                    "fivl": partial(collate, fivl, fivl.train_dataset.select_columns(needed["fivl"])),
                },
                repeats=15,
            )
        for what, t in ((f"step, hidden {hidden}", steps), ("read and collate", collation)):
            ratio = t["fivl"] / t["sft"]
            rows.append({"what": what, "sft_ms": 1e3 * t["sft"], "fivl_ms": 1e3 * t["fivl"], "ratio": ratio})
    title = f"FiVLTrainer against SFTTrainer, batch {BATCH}, one thread (aim for the steps: ratio ≤ 1.05)"
    publish("step_time", title, rows)


if __name__ == "__main__":
    main()
