"""``fivl train``: TRL's command line with Vision Modeling."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config, get_quantization_config

from fivl_hf.files.locks import locked
from fivl_hf.models import existing_folder
from fivl_hf.storage import load_rows
from fivl_hf.training.config import FiVLConfig
from fivl_hf.training.trainer import FiVLTrainer

__all__ = ["train_from_arguments"]


def train_from_arguments(arguments: Sequence[str]) -> None:
    """Train as ``trl sft`` would, on FiVL rows, and save model and processor.

    Args:
        arguments: TRL's flags (``--model_name_or_path``, ``--dataset_name``, ``--output_dir``, ...; ``--config
            file.yaml`` too) and :class:`FiVLConfig`'s ``--vision_*``.
    """
    parser = TrlParser((ScriptArguments, FiVLConfig, ModelConfig), prog="fivl train")  # type: ignore[arg-type]
    given = {argument.split("=")[0] for argument in arguments}
    if not given & {"-h", "--help", "--config"}:
        for name in ("--model_name_or_path", "--dataset_name"):
            if name not in given:
                parser.error(f"{name} is needed; see fivl train --help")
    script, config, model = parser.parse_args_and_config(args=list(arguments))
    if script.dataset_streaming:
        parser.error("--dataset_streaming is for Python: pass FiVLTrainer a streaming dataset")
    # Of several processes, the first holds the folder for all.
    with locked(Path(str(config.output_dir))) if config.process_index == 0 else nullcontext():
        _train(script, config, model)


def _train(script: Any, config: FiVLConfig, model: Any) -> None:
    config.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **dict(config.model_init_kwargs or {}),  # type: ignore[arg-type] # TRL: a JSON string is parsed
    }
    trainer = FiVLTrainer(
        model=str(existing_folder(model.model_name_or_path, "model")),
        args=config,
        train_dataset=load_rows(script.dataset_name, script.dataset_train_split, script.dataset_config),
        eval_dataset=None
        if config.eval_strategy == "no"
        else load_rows(script.dataset_name, script.dataset_test_split, script.dataset_config),
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
    )
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    trainer.save_model(config.output_dir)
    trainer.create_model_card(dataset_name=script.dataset_name)
    if config.push_to_hub:
        trainer.push_to_hub(dataset_name=script.dataset_name)
    trainer.end()
