"""Run by test_processes.py under torchrun: the first step's loss and gradients, written by rank 0."""

import sys

import torch
from datasets import Dataset

from fivl_hf import FiVLConfig, FiVLTrainer
from fivl_hf.scene_model import scene_model, scene_processor
from fivl_hf.scenes import scene_rows
from fivl_hf.schema import FEATURES


def main(output: str, batch_size: int) -> None:
    torch.set_num_threads(1)
    processor = scene_processor()
    rows = list(scene_rows("train", 4, seed=3))
    # One process gets no vision target at all, and less text.
    for i in (2, 3):  # the second process's batch
        rows[i]["key_expressions"], rows[i]["masks"] = [], []
        rows[i]["messages"] = rows[i]["messages"][:2]
    config = FiVLConfig(
        output_dir=output + "-run", max_steps=1, per_device_train_batch_size=batch_size, bf16=False, use_cpu=True,
        activation_checkpointing=False, report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True,
        max_length=None, train_sampling_strategy="sequential", max_grad_norm=0.0, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = FiVLTrainer(
        scene_model(processor, 0, hidden_size=32, text_layers=1, vision_layers=1),
        config,
        train_dataset=Dataset.from_list(rows, features=FEATURES),
        processing_class=processor,
    )
    gradients = {}

    class Keep(torch.optim.SGD):
        def step(self, closure=None):
            gradients.update({n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None})
            return super().step(closure)

    trainer.optimizer = Keep(trainer.model.parameters(), lr=0.0)
    trainer.train()
    if trainer.is_world_process_zero():
        log = next(entry for entry in trainer.state.log_history if "loss" in entry)
        torch.save({"log": log, "gradients": gradients}, output)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
