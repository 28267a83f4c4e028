"""``fivl train``: TRL's command line with Vision Modeling."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from trl import (
    DatasetMixtureConfig,
    ModelConfig,
    ScriptArguments,
    TrlParser,
    get_dataset,
    get_peft_config,
    get_quantization_config,
)

from fivl_hf.files.locks import locked
from fivl_hf.models import hub_options
from fivl_hf.storage import load_rows
from fivl_hf.training.config import FiVLConfig
from fivl_hf.training.trainer import FiVLTrainer

__all__ = ["train_from_arguments"]

# Set in the processes that accelerate starts, which train.
_LAUNCHED = "FIVL_TRAIN_LAUNCHED"


def train_from_arguments(arguments: Sequence[str]) -> None:
    """Train as ``trl sft`` would, on FiVL rows, and save model and processor.

    Args:
        arguments: TRL's flags (``--model_name_or_path``, ``--dataset_name``, ``--output_dir``, ...; ``--config
            file.yaml`` too, also with ``datasets:``) and :class:`FiVLConfig`'s ``--vision_*``. Flags of ``accelerate
            launch`` (``--accelerate_config``, ``--num_processes``, ...) start the training through it.

    Raises:
        ChildProcessError: a training run that accelerate started failed.
    """
    parser = TrlParser((ScriptArguments, FiVLConfig, ModelConfig, DatasetMixtureConfig), prog="fivl train")  # type: ignore[arg-type]
    given = {argument.split("=")[0] for argument in arguments}
    if not given & {"-h", "--help", "--config"}:
        # Before the settings complain of a machine without a GPU.
        _require(parser, "--model_name_or_path" in given, "--dataset_name" in given)
    parsed = parser.parse_args_and_config(
        list(arguments), return_remaining_strings=True, separate_remaining_strings=True
    )
    script, config, model, mixture, from_file, from_line = parsed
    _check(parser, script, model, mixture)
    launcher = [*map(str, from_file), *from_line]
    if launcher and os.environ.get(_LAUNCHED) != "1":
        _launch(parser, launcher, _without(arguments, from_line))
        return
    # Of several processes, the first holds the folder for all.
    with locked(Path(str(config.output_dir))) if config.process_index == 0 else nullcontext():
        _train(script, config, model, mixture)


def _check(parser: Any, script: Any, model: Any, mixture: Any) -> None:
    _require(parser, bool(model.model_name_or_path), bool(script.dataset_name or mixture.datasets))
    if script.dataset_name and mixture.datasets:
        parser.error("give --dataset_name or datasets:, not both")
    if script.dataset_streaming or mixture.streaming:
        parser.error("streaming is for Python: pass FiVLTrainer a streaming dataset")


def _require(parser: Any, model: bool, dataset: bool) -> None:
    if not model:
        parser.error("--model_name_or_path is needed; see fivl train --help")
    if not dataset:
        parser.error("--dataset_name is needed, or datasets: in a --config file; see fivl train --help")


def _launch(parser: Any, launcher: list[str], arguments: list[str]) -> None:
    """Run the training by ``accelerate launch``, as ``trl sft`` does."""
    from subprocess import CalledProcessError

    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from trl.cli.accelerate_config import resolve_accelerate_config_argument

    launch_parser = launch_command_parser()
    known = {"--accelerate_config", *(option for action in launch_parser._actions for option in action.option_strings)}
    if unknown := [each for each in launcher if each.startswith("-") and each.split("=")[0] not in known]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options = [*resolve_accelerate_config_argument(launcher), "--module", "fivl_hf", "train", *arguments]
    os.environ[_LAUNCHED] = "1"
    try:
        launch_command(launch_parser.parse_args(options))
    except (CalledProcessError, ChildFailedError) as error:
        raise ChildProcessError("the training failed; its messages are above") from error
    finally:
        del os.environ[_LAUNCHED]


def _without(arguments: Sequence[str], launcher: Sequence[str]) -> list[str]:
    """Return the arguments that are not the launcher's, which stand among them in their order."""
    left = list(launcher)
    kept = []
    for argument in arguments:
        if left and argument == left[0]:
            left.pop(0)
        else:
            kept.append(argument)
    return kept


def _train(script: Any, config: FiVLConfig, model: Any, mixture: Any) -> None:
    hub_options(model.model_name_or_path, "model")
    config.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **dict(config.model_init_kwargs or {}),  # type: ignore[arg-type] # TRL: a JSON string is parsed
    }
    name = script.dataset_name or ", ".join(each.path for each in mixture.datasets)
    train, test = _datasets(script, mixture, evaluated=config.eval_strategy != "no")
    trainer = FiVLTrainer(
        model=model.model_name_or_path,
        args=config,
        train_dataset=train,
        eval_dataset=test,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
    )
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    trainer.save_model(config.output_dir)
    trainer.create_model_card(dataset_name=script.dataset_name)
    if config.push_to_hub:
        trainer.push_to_hub(dataset_name=name)
    trainer.end()


def _datasets(script: Any, mixture: Any, evaluated: bool) -> tuple[Any, Any]:
    if not mixture.datasets:
        train, test = script.dataset_train_split, script.dataset_test_split
        name, config = script.dataset_name, script.dataset_config
        rows = load_rows(name, train, config, evidence=False)
        return rows, load_rows(name, test, config, evidence=False) if evaluated else None
    found = get_dataset(mixture)
    if evaluated and "test" not in found:
        raise ValueError("a mixture of datasets has an evaluation split with test_split_size: only")
    return found["train"], found["test"] if evaluated else None
