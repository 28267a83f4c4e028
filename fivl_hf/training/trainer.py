"""SFTTrainer with Vision Modeling: one fused pass scores the text and the image positions."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer
from trl.data_utils import is_conversational
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from fivl_hf.models import image_token_id
from fivl_hf.storage import rows_fingerprint, with_encoded_images
from fivl_hf.training.answers import answer_masking, marks_answers, processor_of
from fivl_hf.training.callbacks import SetEpochCallback
from fivl_hf.training.cards import remove_local_names, training_card, training_settings
from fivl_hf.training.checks import (
    check_collator,
    check_launcher,
    check_model,
    check_visual_tokens,
    first_row,
    warn_of_first_rows,
)
from fivl_hf.training.collator import EVIDENCE_COLUMNS, UNLABELLED_REASONS, FiVLCollator
from fivl_hf.training.config import FiVLConfig, as_fivl_config
from fivl_hf.training.fused import FusedPass, vision_sums
from fivl_hf.training.metrics import RunningSums, vision_metrics
from fivl_hf.training.resuming import (
    changes_since,
    load_renamed_weights,
    resumed_folder,
    write_settings,
)
from fivl_hf.training.sharded import head_gradients_reduced
from fivl_hf.training.targets import IGNORE, TaskCounts, scheduled_weight, vision_loss_weights, weighted_mean

__all__ = ["FiVLTrainer"]

logger = logging.get_logger(__name__)

# Warn if no patch had a vision target in this many steps.
_PATIENCE = 50
# Rows compared to tell whether a resumed run has the same data.
_COMPARED_ROWS = 32


class FiVLTrainer(SFTTrainer):
    """:class:`trl.SFTTrainer` whose image positions also learn their keyword (arXiv 2412.14672).

    Rows with images log ``language_loss`` beside TRL's metrics, and with λ > 0 ``vision_loss``,
    ``vision_token_accuracy`` and ``labelled_patches`` (the share of visual tokens with a target). With
    ``vision_loss_weight=0`` (and the same ``assistant_only_loss``, whose default differs) it is SFTTrainer, number for
    number; except with FSDP2, where TRL 1.16 does not average the head's gradient over the processes, and for images
    with transparency or 16 bits, which are shown as :func:`fivl_hf.images.rgb` says.

    Args:
        model: a vision-language model, its folder or its Hub id.
        args: a :class:`FiVLConfig`; an ``SFTConfig`` or ``TrainingArguments`` gets FiVLConfig's defaults for the
            options it lacks. It is copied, so one config may serve several trainers.
        data_collator: by default a :class:`~fivl_hf.training.collator.FiVLCollator`. One of your own that returns no
            ``vision_labels`` trains on text alone.
        train_dataset: rows with ``images`` and ``messages`` (or ``prompt`` and ``completion``). Those with
            ``key_expressions`` and ``masks`` get vision targets, all others train on text alone. A ``Dataset`` or
            a streaming ``IterableDataset``, in any format.
        eval_dataset: the same, or a dictionary of several.
        processing_class: the model's processor; loaded from the model's name if not given.
        kwargs: SFTTrainer's other arguments: ``callbacks``, ``peft_config``, ``compute_metrics``, ``optimizers`` ...

    Example::

        trainer = FiVLTrainer(
            model="llava-hf/llava-1.5-7b-hf",
            args=FiVLConfig(output_dir="llava-fivl", vision_loss_weight=0.1),
            train_dataset=load_dataset("me/fivl-rows", split="train"),
            peft_config=LoraConfig(target_modules="all-linear"),
        )
        trainer.train()

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
        config = as_fivl_config(args, model)
        sample = first_row(with_encoded_images(train_dataset), config.dataset_text_field)
        has_images = "image" in sample or "images" in sample
        answers_only = config.assistant_only_loss
        if has_images:
            if data_collator is None or isinstance(data_collator, FiVLCollator):
                train_dataset, eval_dataset = with_encoded_images(train_dataset), with_encoded_images(eval_dataset)
            answers_only = answers_only and "messages" in sample
            # TRL refuses assistant_only_loss for templates without generation markers, which our collator does
            # without. For rows with images TRL reads the option nowhere but in its constructor, so it is switched off
            # for that call and restored after it.
            config.assistant_only_loss = False
        elif answers_only:
            processing_class = processing_class or processor_of(model, config)
            config.assistant_only_loss = is_conversational(sample) and marks_answers(processing_class, config)
            if is_conversational(sample) and not config.assistant_only_loss:
                logger.warning("Without images and a chat template that marks answers, the loss is on all tokens.")
        super().__init__(model, config, data_collator, train_dataset, eval_dataset, processing_class, **kwargs)
        if has_images:
            config.assistant_only_loss = answers_only

        self._image_token_id = image_token_id(self.model.config)
        self._has_images = has_images
        self._models_vision = has_images and config.vision_loss_weight > 0
        self._measures_vision = has_images and (self._models_vision or config.vision_eval_metrics)
        if self._models_vision:
            check_model(self)
        if self._measures_vision:
            check_visual_tokens(self.model, self.processing_class, self._image_token_id)
        if type(self.data_collator) is DataCollatorForVisionLanguageModeling:
            self.data_collator = self._fivl_collator(self.data_collator, answers_only)
        if isinstance(self.data_collator, FiVLCollator):
            check_collator(self.data_collator, self.args)
            self.add_callback(SetEpochCallback(self.data_collator))
        check_launcher(self)
        warn_of_first_rows(self, train_dataset, self._models_vision)
        # Every process adds, also those that do not log: a reduction that only some of them enter would hang.
        self._sums = RunningSums(lambda tensor: self.accelerator.reduce(tensor, reduction="sum"))
        self._vision_items: torch.Tensor | None = None
        self._weight_now = config.vision_loss_weight
        # All sums logged so far, kept until it is known whether any patch has a target.
        self._logged: Counter[str] = Counter()
        self._checked_for_targets = not self._models_vision

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
            settings=training_settings(self.args, self.state),
            versions={name: version(name) for name in ("trl", "transformers", "torch", "datasets")},
            adapter=hasattr(self.model, "peft_config"),
        )
        card.save(output / "README.md")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        # Without this, FSDP2 leaves the head's gradient unaveraged: see sharded.py.
        with head_gradients_reduced(self.accelerator.unwrap_model(self.model).get_output_embeddings()):
            return self._joint_loss(model, inputs, return_outputs, num_items_in_batch)

    def _joint_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool, num_items_in_batch: Any) -> Any:
        vision_labels, vision_weights = inputs.pop("vision_labels", None), inputs.pop("vision_weights", None)
        unlabelled = inputs.pop("vision_unlabelled", None)
        if vision_labels is None or not self._models_vision:
            return self._text_loss(model, inputs, return_outputs, num_items_in_batch, vision_labels)
        # FusedPass replaces the model in TRL's loss: one pass scores both tasks, and TRL gets the text's part. TRL's
        # loss, metrics and scaling stay its own; none of its methods is copied.
        fused = FusedPass(model, vision_labels, vision_weights)
        result = super().compute_loss(fused, inputs, return_outputs, num_items_in_batch)
        language_loss, outputs = result if return_outputs else (result, None)
        loss = self._add_vision_loss(language_loss, fused, num_items_in_batch)
        sums = {**fused.language_sums(), **fused.vision_sums(), **self._image_tokens(inputs)}
        if unlabelled is not None:
            sums |= dict(zip(UNLABELLED_REASONS, unlabelled.sum(dim=0), strict=True))
        self._sums.add(self._mode, sums)
        if self._mode == "train" and not self._checked_for_targets and self.state.global_step >= _PATIENCE:
            self._warn_without_targets()
        return (loss, outputs) if return_outputs else loss

    def _text_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool, num_items_in_batch: Any, vision_labels: Any
    ) -> Any:
        """Return TRL's loss, and add up the sums that make it comparable with a run on both tasks."""
        if self._models_vision:
            logger.warning_once("The batches hold no vision_labels: the data collator is not a FiVLCollator.")
        if not self._has_images or self.accelerator.parallelism_config is not None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        fused = FusedPass(model)
        result = super().compute_loss(fused, inputs, return_outputs, num_items_in_batch)
        sums = fused.language_sums()
        if vision_labels is not None:
            sums |= {**vision_sums(model, inputs, vision_labels), **self._image_tokens(inputs)}
        if sums:
            self._sums.add(self._mode, sums)
        return result

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def _image_tokens(self, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"image_tokens": (inputs["input_ids"] == self._image_token_id).sum()}

    def _add_vision_loss(self, language_loss: torch.Tensor, fused: FusedPass, num_items_in_batch: Any) -> torch.Tensor:
        """Return (1 − λ) · TRL's loss + λ · vision loss, both already divided by the whole step's counts."""
        vision_items = None if num_items_in_batch is None else self._vision_items
        counts = TaskCounts(
            fused.text_mask.sum() if num_items_in_batch is None else num_items_in_batch,
            fused.vision_weights.sum() if vision_items is None else vision_items,
        )
        self._weight_now = self._vision_loss_weight()
        language_weight, vision_weight = vision_loss_weights(counts, self._weight_now)
        vision_loss = weighted_mean(fused.weighted_vision_nll, torch.as_tensor(counts.vision))
        # As in TRL: the counts are those of all processes, and data parallelism averages their gradients.
        if self.args.average_tokens_across_devices and vision_items is not None:
            vision_loss = vision_loss * (self.accelerator.num_processes // self.get_tp_size())
        loss = language_weight * language_loss + vision_weight * vision_loss
        if self.aux_loss_enabled and fused.aux_loss is not None:
            # TRL's loss includes the router's, which λ must not scale: add back what the language weight took from it.
            steps = self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
            loss = loss + (1 - language_weight) * self.router_aux_loss_coef * fused.aux_loss / steps
        return loss

    def _vision_loss_weight(self) -> float:
        """Return the current λ; evaluations use the full one, so that they can be compared."""
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

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | int | None:
        """Count the step's text targets as Trainer does, and keep the number of vision targets.

        Subclasses with their own loss divide by the value returned, so it has to stay a scalar.
        """
        text = super()._get_num_items_in_batch(batch_samples, device)
        self._vision_items = None if text is None else self._count_vision_targets(batch_samples, device)
        return text

    def _count_vision_targets(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Count the step's vision targets as transformers counts ``labels``, or add up their weights, if any."""
        # transformers shifts `labels` by one before it counts. Keywords are already at the position that predicts them,
        # so they are passed as labels that are shifted already.
        vision_samples = [
            {"labels": None, "shift_labels": batch.get("vision_labels", torch.tensor([IGNORE]))}
            for batch in batch_samples
        ]
        vision = torch.as_tensor(super()._get_num_items_in_batch(vision_samples, device))
        if any("vision_weights" in batch for batch in batch_samples):
            # The mean weight of the step's targets, over all processes that count together.
            sums = torch.zeros(2, device=device)
            for batch in batch_samples:
                labelled = batch["vision_labels"].to(device) != IGNORE
                weights = batch.get("vision_weights", labelled).to(device)
                sums += torch.stack([weights.sum(), labelled.sum()])
            if self.args.average_tokens_across_devices:
                sums = self.accelerator.reduce(sums, reduction="sum")
            vision = vision * sums[0] / sums[1].clamp(min=1)
        return vision

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = self._mode
        total = self._sums.pop(mode)
        if mode == "train" and not self._checked_for_targets:
            self._logged.update(total)
        prefix = "" if mode == "train" else "eval_"
        logs.update({prefix + name: value for name, value in vision_metrics(total).items()})
        varies = self.args.vision_loss_schedule != "constant" or self.args.vision_loss_warmup_steps > 0
        if mode == "train" and "vision_targets" in total and varies:
            logs["vision_loss_weight"] = self._weight_now
        super().log(logs, start_time)

    def _warn_without_targets(self) -> None:
        """Say once, after some steps or at the end of a short run, that no patch had a target, and why."""
        self._checked_for_targets = True
        total = self._logged
        total.update(self._sums.peek("train"))
        if total and not total["vision_targets"] and self.is_world_process_zero():
            reasons = sorted(UNLABELLED_REASONS, key=lambda reason: -total.get(reason, 0))
            counts = "; ".join(f"{total[reason]:,.0f} {reason}" for reason in reasons if total.get(reason))
            logger.warning(
                f"No patch had a vision target in the first {self.state.global_step} steps, so only the text was "
                f"trained: {counts or 'no image tokens'}."
            )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as SFTTrainer does, with the random nouns of epoch 0, so that evaluations can be compared."""
        # `predict` adds to the sums and never logs them.
        self._sums.pop("eval")
        collator = self.data_collator
        if not isinstance(collator, FiVLCollator):
            return super().evaluate(*args, **kwargs)
        # The data loader has the same collator, and evaluation runs in the middle of an epoch: what is changed for it
        # is put back also when it fails.
        before = collator.epoch, collator.vision_modeling
        collator.epoch, collator.vision_modeling = 0, collator.vision_modeling or self._measures_vision
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            collator.epoch, collator.vision_modeling = before

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as SFTTrainer does; warn if a resumed run has other vision options or data than it began with."""
        resumed = resumed_folder(resume_from_checkpoint, self.args.output_dir)
        if resumed and self.is_world_process_zero():
            folder = get_last_checkpoint(str(self.args.output_dir)) if resumed is True else str(resumed)
            if changes := changes_since(str(folder), self._resumed_settings()):
                logger.warning(f"Resuming from {folder} with other settings: {'; '.join(changes)}.")
        result = super().train(resumed, *args, **kwargs)
        if not self._checked_for_targets:
            self._warn_without_targets()
        return result

    def _resumed_settings(self) -> dict[str, Any]:
        """Collect what should stay the same when a run is resumed."""
        fields = [f.name for f in dataclasses.fields(self.args) if f.name.startswith("vision_")]
        settings = {name: getattr(self.args, name) for name in fields}
        return {**settings, "train_dataset": rows_fingerprint(self.train_dataset, sample=_COMPARED_ROWS)}

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if hasattr(self.model, "peft_config"):
            remove_local_names(Path(output_dir or self.args.output_dir or ".") / "README.md")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.is_world_process_zero():
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            write_settings(folder, self._resumed_settings())

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: list[str] = self._signature_columns or []
        # TRL would drop the lengths of rows with images before batches are grouped by them.
        used = [*EVIDENCE_COLUMNS, self.args.dataset_text_field, self.args.length_column_name]
        more = used if self._is_vision_dataset else []
        self._signature_columns = columns + [name for name in more if name not in columns]  # type: ignore[assignment]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_renamed_weights(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._load_renamed_weights(self.state.best_model_checkpoint)

    def _load_renamed_weights(self, folder: str | None, model: Any = None) -> None:
        if folder and not (self.is_fsdp_enabled or self.is_deepspeed_enabled or hasattr(self.model, "peft_config")):
            load_renamed_weights(model or self.model, folder)

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
            measure_only=not self._models_vision,
            count_unlabelled=self._models_vision,
        )
