"""Callbacks for FiVLTrainer and for a plain ``transformers.Trainer``."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fivl_hf.training.collator import FiVLCollator

__all__ = ["SetEpochCallback"]


class SetEpochCallback(TrainerCallback):
    """Tells a :class:`FiVLCollator` the epoch, so that each one draws its own random nouns, the same after a resume.

    FiVLTrainer adds it by itself; give it to a plain ``Trainer`` with ``callbacks=[SetEpochCallback(collator)]``.
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
