"""``fivl train``: TRL's command line with Vision Modeling."""

from collections.abc import Sequence

from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config

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
    script, config, model = parser.parse_args_and_config(args=list(arguments))
    if not script.dataset_name or not model.model_name_or_path:
        parser.error("--dataset_name and --model_name_or_path are needed")
    train = load_rows(script.dataset_name, script.dataset_train_split, script.dataset_config)
    evaluation = None
    if config.eval_strategy != "no":
        evaluation = load_rows(script.dataset_name, script.dataset_test_split, script.dataset_config)
    trainer = FiVLTrainer(
        model=model.model_name_or_path,
        args=config,
        train_dataset=train,
        eval_dataset=evaluation,
        peft_config=get_peft_config(model),
    )
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    trainer.save_model(config.output_dir)
    if config.push_to_hub:
        trainer.push_to_hub(dataset_name=script.dataset_name)
