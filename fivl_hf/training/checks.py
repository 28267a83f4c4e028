"""Checks before a training run begins, so that none fails silently."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from PIL import Image
from transformers.utils import logging

from fivl_hf.chat import as_blocks, encode
from fivl_hf.geometry import token_boxes
from fivl_hf.images import ImageError
from fivl_hf.masks import decode_mask
from fivl_hf.training.answers import has_blank_answers
from fivl_hf.training.collator import FiVLCollator, row_name
from fivl_hf.training.config import FiVLConfig

__all__ = [
    "blank_answers",
    "check_collator",
    "check_launcher",
    "check_model",
    "check_visual_tokens",
    "evidence_problem",
    "first_row",
    "warn_of_first_rows",
]

logger = logging.get_logger(__name__)

_FIRST_ROWS, _FIRST_STREAMED_ROWS = 64, 8


def first_row(train_dataset: Any, text_field: str) -> dict[str, Any]:
    """Return the first row, from which TRL too tells what kind of dataset it has.

    Raises:
        ValueError: several splits, no rows, or evidence without the columns it belongs to.
    """
    if isinstance(train_dataset, dict):
        splits = ", ".join(map(repr, train_dataset))
        raise ValueError(f"train_dataset has the splits {splits}: pass one of them, such as dataset['train']")
    sample = next(iter(train_dataset), None) if train_dataset is not None else {}
    if sample is None:
        raise ValueError("train_dataset is empty")
    if sample.get("key_expressions") is not None and not {"image", "images"} & sample.keys():
        raise ValueError("train_dataset has key_expressions but no column 'images': there is nothing to ground them in")
    if "key_expressions" in sample and not {"messages", "prompt", text_field} & sample.keys():
        raise ValueError("train_dataset has key_expressions but no column 'messages'")
    return dict(sample)


def check_model(trainer: Any) -> None:
    """Check that a trainer's options and adapter allow Vision Modeling.

    Raises:
        ValueError: they do not; the message names the option.
    """
    if trainer.args.label_smoothing_factor > 0 or trainer.compute_loss_func is not None:
        raise ValueError(
            "Vision Modeling scores text and image positions in one fused pass, which label smoothing and "
            "compute_loss_func do not go through. Leave them out, or set vision_loss_weight=0."
        )
    parallelism = trainer.accelerator.parallelism_config
    if parallelism is not None and (parallelism.cp_enabled or parallelism.sp_enabled):
        raise ValueError("Context and sequence parallelism split the sequence; set vision_loss_weight=0 for them.")
    peft_config = getattr(trainer.model, "active_peft_config", None)
    if getattr(peft_config, "is_prompt_learning", False):
        raise ValueError("Prompt-learning adapters shift every position; use LoRA, or set vision_loss_weight=0.")


def check_visual_tokens(model: Any, processor: Any, token_id: int) -> None:
    """Check that a model has visual tokens, that their boxes are known, and that its processor writes as many.

    Raises:
        ValueError: it has none in its sequence, or processor and model do not belong together.
        UnknownProcessorError: the boxes are not known and cannot be probed.
    """
    if token_id < 0:
        raise ValueError(
            f"{type(model).__name__} has no visual tokens in its sequence (it looks at the image through "
            "cross-attention, or its config names no image_token_id), so Vision Modeling has no positions to "
            "train. Set vision_loss_weight=0."
        )
    boxes = token_boxes(processor, (64, 64), model_config=model.config)
    if not getattr(processor, "chat_template", None):
        return
    question = as_blocks([{"role": "user", "content": "?"}], 1)
    ids = encode(processor, [question], [[Image.new("RGB", (64, 64))]], prompt=True).inputs["input_ids"]
    written = int((ids == token_id).sum())
    if written != len(boxes):
        raise ValueError(
            f"{type(processor).__name__} writes {written} visual tokens (id {token_id}, from the config of "
            f"{type(model).__name__}) for an image of 64x64 pixels; {len(boxes)} were expected. Do processor and model "
            "belong together?"
        )


def check_collator(collator: FiVLCollator, args: FiVLConfig) -> None:
    """Warn of options that do not have the effect they seem to have."""
    if collator.options != args.vision_options():
        logger.warning(
            f"data_collator.options ({collator.options}) differ from the vision_* options of args "
            f"({args.vision_options()}): those of the collator hold."
        )
    if args.dataloader_persistent_workers and collator.options.keyword == "random":
        logger.warning(
            "With dataloader_persistent_workers the workers do not hear of a new epoch: every epoch trains on the "
            "random nouns of the first. Set it to False, or vision_keyword='head'."
        )


def check_launcher(trainer: Any) -> None:
    """Warn where a launcher's configuration asks for FSDP and the training does not shard."""
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and str(trainer.accelerator.distributed_type).rsplit(".", 1)[-1] != "FSDP":
        logger.warning(
            "The launcher's configuration asks for FSDP, but nothing is sharded: accelerate shards on accelerators "
            f"only, and this training runs on {trainer.args.device.type} as {trainer.accelerator.distributed_type} "
            "(use_cpu or --cpu?). Every process holds the whole model."
        )


def blank_answers(train_dataset: Any) -> list[str]:
    """Name those of a dataset's first rows whose answers are all blank."""
    rows = islice(iter(train_dataset), _first_rows(train_dataset))
    return [row_name(row) for row in rows if has_blank_answers(row)]


def _first_rows(dataset: Any) -> int:
    return _FIRST_ROWS if hasattr(dataset, "__len__") else _FIRST_STREAMED_ROWS


def evidence_problem(train_dataset: Any, max_coverage: float) -> str | None:
    """Say why the first rows of a dataset give no vision target; None if one of them gives any.

    Masks are compared with the whole image here, not with its visible patches: nothing has to be processed for it.

    Args:
        train_dataset: its images and masks may be encoded.
        max_coverage: as ``FiVLConfig.vision_max_coverage``.
    """
    rows: Iterable[Mapping[str, Any]] = islice(iter(train_dataset), _first_rows(train_dataset))
    reasons: Counter[str] = Counter()
    number = 0
    for row in rows:
        number += 1
        if "key_expressions" not in row or "masks" not in row:
            absent = [name for name in ("key_expressions", "masks") if name not in row]
            return f"the rows have no column {' and '.join(map(repr, absent))}{_hidden(train_dataset, absent)}"
        expressions, masks = row["key_expressions"] or [], row["masks"] or []
        if not expressions:
            reasons["rows without key expressions"] += 1
        for expression, mask in zip(expressions, masks, strict=False):
            reason = _reason(expression, mask, max_coverage)
            if reason is None:
                return None
            reasons[reason] += 1
    counts = "; ".join(f"{n:,} {reason}" for reason, n in reasons.most_common())
    return f"in the first {number:,} rows there are {counts}" if counts else None


def _reason(expression: Mapping[str, Any], mask: Any, max_coverage: float) -> str | None:
    if not expression.get("keywords"):
        return "expressions without a noun"
    try:
        covered = float(decode_mask(mask).mean())
    except ImageError:
        return None  # the collator names its row
    return f"masks of more than {max_coverage:.0%} of their image" if covered > max_coverage else None


def _hidden(dataset: Any, names: list[str]) -> str:
    """Return a hint where a dataset has columns that its format does not show."""
    known = getattr(dataset, "column_names", None) or []
    return " (the dataset's format hides it: see with_format)" if set(names) & set(known) else ""


def warn_of_first_rows(trainer: Any, train_dataset: Any, models_vision: bool) -> None:
    """Warn if the first rows contain nothing to learn; the collator names blank rows later."""
    if not trainer.is_world_process_zero() or train_dataset is None:
        return
    if not isinstance(trainer.data_collator, FiVLCollator):
        if blank := blank_answers(train_dataset):
            logger.warning(f"rows {', '.join(blank[:5])}: all answers are blank, so they teach nothing but to stop")
        return
    problem = evidence_problem(train_dataset, trainer.args.vision_max_coverage) if models_vision else None
    if problem:
        logger.warning(
            f"vision_loss_weight is {trainer.args.vision_loss_weight}, but {problem}: without vision targets this "
            "trains on the text alone."
        )
