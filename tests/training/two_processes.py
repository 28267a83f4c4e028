"""Run by test_processes.py under torchrun: the losses and gradients of a step, written by the first process.

    two_processes.py FOLDER PROCESSES HOW VARIANTS

HOW is "ddp" or "fsdp2"; VARIANTS is JSON: names, each with fields of FiVLConfig. FOLDER/NAME.pt is written for each,
and FOLDER/reliance.json: what a callback measures of a model that learns nothing.
"""

import json
import os
import sys
from pathlib import Path

import torch
import yaml
from benchmark_folders import as_benchmark, own_answers
from datasets import Dataset

from fivl_hf import FiVLConfig, FiVLTrainer
from fivl_hf.augment.scenes import scene_rows
from fivl_hf.evaluation.callback import VisualRelianceCallback
from fivl_hf.scenes.model import scene_model, scene_processor
from fivl_hf.schema import FEATURES

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS, LEARNING_RATE = 4, 1.0


def uneven_rows() -> list[dict]:
    """One process gets no vision target at all, and less text."""
    rows = list(scene_rows("train", ROWS, seed=3))
    for i in (2, 3):  # the second process's batch
        rows[i]["key_expressions"], rows[i]["masks"] = [], []
        rows[i]["messages"] = rows[i]["messages"][:2]
    for row in rows:
        for k, expression in enumerate(row["key_expressions"]):
            expression["score"] = 0.25 * (k + 1)
    return rows


def allow_fsdp_on_cpu() -> None:
    """accelerate shards on accelerators only; FSDP2 itself works with gloo, too."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    settings = yaml.safe_load((EXAMPLES / "accelerate" / "fsdp2.yaml").read_text())["fsdp_config"]
    os.environ |= {name.upper(): str(value) for name, value in settings.items()}
    os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = settings["fsdp_transformer_layer_cls_to_wrap"]
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}
    original = PartialState.__init__

    def pretend(self: PartialState, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = pretend


def main(folder: str, processes: int, how: str, variants: dict[str, dict]) -> None:
    torch.set_num_threads(1)
    if how == "fsdp2":
        allow_fsdp_on_cpu()
    for name, options in variants.items():
        train_one_step(f"{folder}/{name}.pt", processes, how, options)
    measure_reliance(Path(folder), processes)
    if torch.distributed.is_initialized():
        # A process that ends while another still talks to it may be aborted by gloo's threads.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        # Under load, gloo's threads abort the interpreter while it ends, after everything is written.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def trainer_of(output: str, processes: int, options: dict) -> FiVLTrainer:
    processor = scene_processor()
    defaults = {
        "output_dir": output + "-run",
        "max_steps": 1,
        "per_device_train_batch_size": ROWS // processes,
        "bf16": False,
        "use_cpu": True,
        "activation_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "max_length": None,
        "train_sampling_strategy": "sequential",
        "max_grad_norm": 0.0,
        "dataloader_pin_memory": False,
        "lr_scheduler_type": "constant",
        "learning_rate": LEARNING_RATE,
        "optim": "sgd",
    }
    data = Dataset.from_list(uneven_rows(), features=FEATURES)
    return FiVLTrainer(
        scene_model(processor, 0, hidden_size=32, text_layers=1, vision_layers=1),
        FiVLConfig(**{**defaults, **options}),
        train_dataset=data,
        eval_dataset=data,
        processing_class=processor,
    )


def train_one_step(output: str, processes: int, how: str, options: dict) -> None:
    trainer = trainer_of(output, processes, options)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.is_fsdp_enabled == (how == "fsdp2")
    # Plain gradient descent: the step is the gradient.
    after = {
        name: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach()
        for name, p in trainer.model.named_parameters()
    }
    gradients = {name: (before[name] - weight) / LEARNING_RATE for name, weight in after.items()}
    if trainer.is_world_process_zero():
        log = next(entry for entry in trainer.state.log_history if "loss" in entry)
        torch.save({"log": log, "gradients": gradients}, output)


def measure_reliance(folder: Path, processes: int) -> None:
    """What the model answers is right to most questions, so that there is something to lose."""
    trainer = trainer_of(str(folder / "reliance"), processes, {"learning_rate": 0.0})
    rows = list(scene_rows("test", 9))
    model = scene_model(trainer.processing_class, 0, hidden_size=32, text_layers=1, vision_layers=1)
    questions = as_benchmark(rows, answers=own_answers(model, trainer.processing_class, rows))
    trainer.add_callback(VisualRelianceCallback(trainer, questions))
    trainer.train()
    metrics = trainer.evaluate()
    if trainer.is_world_process_zero():
        found = {name: value for name, value in metrics.items() if "reliance" in name}
        (folder / "reliance.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))
