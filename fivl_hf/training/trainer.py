"""SFTTrainer with Vision Modeling: one fused pass scores the text and the image positions."""

import copy
import dataclasses
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from fivl_hf.chat import as_blocks, encode
from fivl_hf.geometry import token_boxes
from fivl_hf.model_cards import training_card
from fivl_hf.models import image_token_id
from fivl_hf.storage import undecoded
from fivl_hf.training.answers import answer_masking, marks_answers
from fivl_hf.training.checkpoints import load_renamed_weights
from fivl_hf.training.collator import EVIDENCE_COLUMNS, FiVLCollator
from fivl_hf.training.config import FiVLConfig
from fivl_hf.training.fused import FusedPass
from fivl_hf.training.sharded import head_gradients_reduced
from fivl_hf.training.targets import (
    IGNORE,
    TaskCounts,
    scheduled_weight,
    vision_loss_weights,
    weighted_mean,
)

__all__ = ["EpochTeller", "FiVLTrainer"]

logger = logging.get_logger(__name__)

# What is added up between two logs, in the order of the tensor that holds the sums.
_SUMS = (
    "language_nll",
    "language_targets",
    "vision_nll",
    "vision_weight",
    "vision_targets",
    "vision_correct",
    "image_tokens",
)


class FiVLTrainer(SFTTrainer):
    """:class:`trl.SFTTrainer` whose image positions also learn their keyword (arXiv 2412.14672).

    Takes what SFTTrainer takes; rows with ``key_expressions`` and ``masks`` beside ``images`` and ``messages`` get
    vision targets, all others train on text alone. Logs ``language_loss``, ``vision_loss``,
    ``vision_token_accuracy`` and ``labelled_patches`` (the share of visual tokens with a target) beside TRL's
    metrics. With ``vision_loss_weight=0`` (and the same ``assistant_only_loss``, whose default differs) it is
    SFTTrainer, number for number; but for FSDP2, where TRL 1.16 leaves the head's gradient of each process to itself.

    Raises:
        UnknownProcessorError: the processor's token boxes are neither known nor can they be probed.
        ValueError: an option that needs full logits (label smoothing, ``compute_loss_func``), prompt-learning
            adapters, or a model whose config names no image token, together with λ > 0.
    """

    args: FiVLConfig
    model: PreTrainedModel

    _tag_names = ["trl", "sft", "fivl"]  # noqa: RUF012 - TRL's own contract
    _name = "FiVL"
    _paper = {  # noqa: RUF012
        "title": "FiVL: A Framework for Improved Vision-Language Alignment through the Lens of Training, Evaluation "
        "and Explainability",
        "id": "2412.14672",
    }

    def __init__(
        self,
        model: Any,
        args: SFTConfig | TrainingArguments | None = None,
        data_collator: Callable[..., Any] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        **kwargs: Any,
    ) -> None:
        config = _as_fivl_config(args, model)
        if data_collator is None or isinstance(data_collator, FiVLCollator):
            train_dataset, eval_dataset = undecoded(train_dataset), undecoded(eval_dataset)
        sample = _first_row(train_dataset)
        has_images = "image" in sample or "images" in sample
        answers_only = config.assistant_only_loss and "messages" in sample
        # TRL refuses templates without generation markers; for conversations with images the collator does without.
        config.assistant_only_loss = answers_only and not has_images and marks_answers(processing_class)
        if answers_only and not has_images and not config.assistant_only_loss:
            logger.warning("Without images and without a chat template that marks answers, the loss is on all tokens.")
        super().__init__(model, config, data_collator, train_dataset, eval_dataset, processing_class, **kwargs)
        config.assistant_only_loss = answers_only

        self._image_token_id = image_token_id(self.model.config)
        self._models_vision = has_images and config.vision_loss_weight > 0
        if self._models_vision:
            self._check_vision_modeling()
        if type(self.data_collator) is DataCollatorForVisionLanguageModeling:
            self.data_collator = self._fivl_collator(self.data_collator, answers_only)
        if isinstance(self.data_collator, FiVLCollator):
            self._check_collator(self.data_collator)
            self.add_callback(EpochTeller(self.data_collator))
        self._sums: dict[str, torch.Tensor | None] = {"train": None, "eval": None}
        self._weight_now = config.vision_loss_weight

    def create_model_card(  # type: ignore[override] # TRL's signature, not transformers'
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """Write README.md to the output folder: base model, data, λ; ``fivl push model`` adds what was measured."""
        if not self.is_world_process_zero():
            return
        given = [tags] if isinstance(tags, str) else tags or []
        output = Path(self.args.output_dir or ".")
        base = getattr(self.model.config, "_name_or_path", None) or getattr(self.model, "name_or_path", None)
        name = model_name or output.resolve().name
        card = training_card(
            name,
            load_name=self.hub_model_id or name,
            base_model=base or None,
            dataset=dataset_name,
            tags=[*self._tag_names, *given],
            settings=self._training_settings(),
            versions={name: version(name) for name in ("trl", "transformers", "torch", "datasets")},
        )
        card.save(output / "README.md")

    def _training_settings(self) -> dict[str, Any]:
        args = self.args
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        warmup = args.get_warmup_steps(self.state.max_steps)
        settings: dict[str, Any] = {
            "vision loss weight λ": args.vision_loss_weight,
            "largest mask that supervises": f"{args.vision_max_coverage:.0%} of the patches",
            "learning rate": args.learning_rate,
            "schedule": f"{SchedulerType(args.lr_scheduler_type).value}, {warmup} warm-up steps",
            "samples per step": batch,
            "steps": self.state.global_step,
        }
        named = ("vision_loss_weight", "vision_max_coverage")
        fields = [f for f in dataclasses.fields(args) if f.name.startswith("vision_") and f.name not in named]
        settings |= {f.name: getattr(args, f.name) for f in fields if getattr(args, f.name) != f.default}
        logged = {key: value for entry in self.state.log_history for key, value in entry.items()}
        names = {"language_loss": "last language loss", "vision_loss": "last vision loss"}
        return settings | {label: f"{logged[key]:.4g}" for key, label in names.items() if key in logged}

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        with head_gradients_reduced(self.accelerator.unwrap_model(self.model).get_output_embeddings()):
            return self._loss_of_both(model, inputs, return_outputs, num_items_in_batch)

    def _loss_of_both(self, model: Any, inputs: dict[str, Any], return_outputs: bool, num_items_in_batch: Any) -> Any:
        vision_labels, vision_weights = inputs.pop("vision_labels", None), inputs.pop("vision_weights", None)
        text_items, vision_items = (None, None) if num_items_in_batch is None else num_items_in_batch
        if vision_labels is None:
            if self._models_vision:
                logger.warning_once("The batches hold no vision_labels: the data collator is not a FiVLCollator.")
            return super().compute_loss(model, inputs, return_outputs, text_items)
        fused = FusedPass(model, vision_labels, vision_weights)
        result = super().compute_loss(fused, inputs, return_outputs, text_items)
        language_loss, outputs = result if return_outputs else (result, None)
        loss = self._add_vision_loss(language_loss, fused, text_items, vision_items)
        self._add_sums(fused, inputs["input_ids"])
        return (loss, outputs) if return_outputs else loss

    def _add_vision_loss(
        self, language_loss: torch.Tensor, fused: "FusedPass", text_items: Any, vision_items: Any
    ) -> torch.Tensor:
        """(1 − λ) · TRL's loss + λ · vision loss, both already divided by the whole step's counts."""
        counts = TaskCounts(
            fused.text_mask.sum() if text_items is None else text_items,
            fused.vision_weights.sum() if vision_items is None else vision_items,
        )
        self._weight_now = self._vision_loss_weight()
        language_weight, vision_weight = vision_loss_weights(counts, self._weight_now)
        vision_loss = weighted_mean(fused.weighted_vision_nll, torch.as_tensor(counts.vision))
        # As in TRL: the counts are those of all processes, and data parallelism averages their gradients.
        if self.args.average_tokens_across_devices and vision_items is not None:
            vision_loss = vision_loss * (self.accelerator.num_processes // self.get_tp_size())
        return language_weight * language_loss + vision_weight * vision_loss

    def _vision_loss_weight(self) -> float:
        """λ now; evaluations take the full one, so that they can be compared."""
        args = self.args
        if not self.model.training:
            return args.vision_loss_weight
        return scheduled_weight(
            args.vision_loss_weight,
            self.state.global_step,
            self.state.max_steps,
            args.vision_loss_schedule,
            warmup_steps=args.vision_warmup(self.state.max_steps),
        )

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | None:
        """[text, vision] targets of the whole step, each counted as transformers counts ``labels``.

        Where keywords are weighted, the second is the sum of their weights.
        """
        text = super()._get_num_items_in_batch(batch_samples, device)
        if text is None:
            return None
        vision_samples = [
            {"labels": None, "shift_labels": batch.get("vision_labels", torch.tensor([IGNORE]))}
            for batch in batch_samples
        ]
        vision = super()._get_num_items_in_batch(vision_samples, device)
        if vision is not None and any("vision_weights" in batch for batch in batch_samples):
            # The mean weight of the step's targets, over all processes that count together.
            sums = torch.zeros(2, device=device)
            for batch in batch_samples:
                labelled = batch["vision_labels"].to(device) != IGNORE
                weights = batch.get("vision_weights", labelled).to(device)
                sums += torch.stack([weights.sum(), labelled.sum()])
            if self.args.average_tokens_across_devices:
                sums = self.accelerator.reduce(sums, reduction="sum")
            vision = vision * sums[0] / sums[1].clamp(min=1)
        return torch.stack([torch.as_tensor(text), torch.as_tensor(vision)])

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = "train" if self.model.training else "eval"
        if (sums := self._sums[mode]) is not None:
            prefix = "" if mode == "train" else "eval_"
            total = dict(zip(_SUMS, sums.tolist(), strict=True))
            logs.update({prefix + name: value for name, value in _vision_metrics(total).items()})
            varies = self.args.vision_loss_schedule != "constant" or self.args.vision_loss_warmup_steps > 0
            if mode == "train" and varies:
                logs["vision_loss_weight"] = self._weight_now
            self._sums[mode] = None
        super().log(logs, start_time)

    def _add_sums(self, fused: "FusedPass", input_ids: torch.Tensor) -> None:
        mode = "train" if self.model.training else "eval"
        sums = torch.stack(
            [
                -fused.text_log_probs.detach().sum(),
                fused.text_mask.sum(),
                fused.weighted_vision_nll.detach().sum(),
                fused.vision_weights.sum(),
                fused.vision_mask.sum(),
                fused.vision_correct.sum(),
                (input_ids == self._image_token_id).sum(),
            ]
        ).float()
        # Summed here, as TRL's metrics are, because `log` may be called by one process alone.
        sums = self.accelerator.reduce(sums, reduction="sum")
        earlier = self._sums[mode]
        self._sums[mode] = sums if earlier is None else earlier + sums

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As SFTTrainer's; the random nouns are those of epoch 0, so that evaluations can be compared."""
        # `predict` adds to the sums and never logs them.
        self._sums["eval"] = None
        collator = self.data_collator
        if not isinstance(collator, FiVLCollator):
            return super().evaluate(*args, **kwargs)
        epoch, collator.epoch = collator.epoch, 0
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            collator.epoch = epoch

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: list[str] = self._signature_columns or []
        self._signature_columns = columns + [name for name in EVIDENCE_COLUMNS if name not in columns]  # type: ignore[assignment]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_renamed_weights(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._load_renamed_weights(self.state.best_model_checkpoint)

    def _load_renamed_weights(self, folder: str | None, model: Any = None) -> None:
        if folder and not (self.is_fsdp_enabled or self.is_deepspeed_enabled or hasattr(self.model, "peft_config")):
            load_renamed_weights(model or self.model, folder)

    def _check_vision_modeling(self) -> None:
        if self.args.label_smoothing_factor > 0 or self.compute_loss_func is not None:
            raise ValueError(
                "Vision Modeling scores text and image positions in one fused pass, which label smoothing and "
                "compute_loss_func do not go through. Leave them out, or set vision_loss_weight=0."
            )
        if self.aux_loss_enabled:
            raise ValueError(
                "The router's auxiliary loss cannot be weighed apart from the language loss: set "
                "router_aux_loss_coef=0, or vision_loss_weight=0."
            )
        parallelism = self.accelerator.parallelism_config
        if parallelism is not None and (parallelism.cp_enabled or parallelism.sp_enabled):
            raise ValueError("Context and sequence parallelism split the sequence; set vision_loss_weight=0 for them.")
        peft_config = getattr(self.model, "active_peft_config", None)
        if getattr(peft_config, "is_prompt_learning", False):
            raise ValueError("Prompt-learning adapters shift every position; use LoRA, or set vision_loss_weight=0.")
        if self._image_token_id < 0:
            raise ValueError(
                f"{type(self.model).__name__} has no visual tokens in its sequence (it looks at the image through "
                "cross-attention, or its config names no image_token_id), so Vision Modeling has no positions to "
                "train. Set vision_loss_weight=0."
            )
        boxes = token_boxes(self.processing_class, (64, 64), model_config=self.model.config)
        if getattr(self.processing_class, "chat_template", None):
            self._check_visual_tokens(len(boxes))

    def _check_visual_tokens(self, expected: int) -> None:
        """Whether processor and model belong together, as far as a picture's placeholders tell."""
        question = as_blocks([{"role": "user", "content": "?"}], 1)
        picture = Image.new("RGB", (64, 64))
        ids = encode(self.processing_class, [question], [[picture]], prompt=True).inputs["input_ids"]
        found = int((ids == self._image_token_id).sum())
        if found != expected:
            raise ValueError(
                f"{type(self.processing_class).__name__} writes {found} visual tokens (id {self._image_token_id}, from "
                f"the config of {type(self.model).__name__}) for a picture of 64x64 pixels; {expected} were expected. "
                "Do processor and model belong together?"
            )

    def _check_collator(self, collator: FiVLCollator) -> None:
        """Warn of options that do not have the effect they seem to have."""
        if collator.options != self.args.vision_options():
            logger.warning(
                f"data_collator.options ({collator.options}) differ from the vision_* options of args "
                f"({self.args.vision_options()}): those of the collator hold."
            )
        if self.args.dataloader_persistent_workers and collator.options.keyword == "random":
            logger.warning(
                "With dataloader_persistent_workers the workers do not hear of a new epoch: every epoch trains on the "
                "random nouns of the first. Set it to False, or vision_keyword='head'."
            )

    def _fivl_collator(self, trl_collator: DataCollatorForVisionLanguageModeling, answers_only: bool) -> FiVLCollator:
        """TRL's collator, extended; its own fields are kept as TRL set them."""
        fields = {f.name: getattr(trl_collator, f.name) for f in dataclasses.fields(trl_collator)}
        if answers_only:
            fields |= answer_masking(self.processing_class)
        return FiVLCollator(
            **fields,
            options=self.args.vision_options(),
            model_config=self.model.config,
            vision_modeling=self._models_vision,
        )


class EpochTeller(TrainerCallback):
    """Tells a :class:`FiVLCollator` the epoch, so that each one draws its own random nouns, the same after a resume.

    FiVLTrainer adds it by itself; give it to a plain ``Trainer`` with ``callbacks=[EpochTeller(collator)]``.
    """

    def __init__(self, collator: FiVLCollator) -> None:
        self.collator = collator
        self.next_epoch = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.next_epoch = int(state.epoch or 0)

    # Counted, because `state.epoch` lags behind for streaming datasets without a length.
    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.collator.epoch = self.next_epoch
        self.next_epoch += 1


def _first_row(train_dataset: Any) -> dict[str, Any]:
    """The first row, from which TRL too tells what kind of dataset it has."""
    if isinstance(train_dataset, dict):
        splits = ", ".join(map(repr, train_dataset))
        raise ValueError(f"train_dataset has the splits {splits}: pass one of them, such as dataset['train']")
    sample = next(iter(train_dataset), None) if train_dataset is not None else {}
    if sample is None:
        raise ValueError("train_dataset is empty")
    if sample.get("key_expressions") is not None and not {"image", "images"} & sample.keys():
        raise ValueError("train_dataset has key_expressions but no column 'images': there is nothing to ground them in")
    if "key_expressions" in sample and not {"messages", "prompt", "text"} & sample.keys():
        raise ValueError("train_dataset has key_expressions but no column 'messages'")
    return sample


def _as_fivl_config(args: SFTConfig | TrainingArguments | None, model: Any) -> FiVLConfig:
    """A FiVLConfig of the trainer's own: the caller's may serve another trainer."""
    if isinstance(args, FiVLConfig):
        return copy.copy(args)
    if args is None:
        name = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "")
        return FiVLConfig(f"{str(name).rstrip('/').split('/')[-1] or 'model'}-FiVL")
    # to_dict() hides every ..._token, also those that are no secret.
    hidden = {name: getattr(args, name) for name in args.to_dict() if name.endswith("_token")}
    return FiVLConfig(**{**args.to_dict(), **hidden})


def _vision_metrics(total: dict[str, float]) -> dict[str, float]:
    """Means over all targets since the last log; a mean without targets is left out."""
    metrics = {"labelled_patches": total["vision_targets"] / max(total["image_tokens"], 1)}
    if total["language_targets"]:
        metrics["language_loss"] = total["language_nll"] / total["language_targets"]
    if total["vision_targets"]:
        metrics["vision_token_accuracy"] = total["vision_correct"] / total["vision_targets"]
    if total["vision_weight"]:
        metrics["vision_loss"] = total["vision_nll"] / total["vision_weight"]
    return metrics
