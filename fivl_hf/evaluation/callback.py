"""Visual reliance during training: measured on some questions at each evaluation, and logged with the other metrics."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from accelerate.utils import gather_object
from transformers import TrainerCallback
from trl.models.utils import unwrap_model_for_generation

from fivl_hf.evaluation.answerers.local import TransformersAnswerer
from fivl_hf.evaluation.plan import DEFAULT_CONDITIONS, Plan
from fivl_hf.evaluation.runner import ask, summary_of
from fivl_hf.evaluation.scorers import default_scorer, scorer
from fivl_hf.evaluation.summary import unparsed_answers
from fivl_hf.evaluation.table import AnswerTable

__all__ = ["VisualRelianceCallback"]

_LOGGED = {
    "visual_reliance_score": "visual_reliance_score",
    "accuracy": "reliance_accuracy",
    "masked_accuracy": "reliance_masked_accuracy",
    "random_reliance_score": "random_reliance_score",
}


class VisualRelianceCallback(TrainerCallback):
    """Logs ``eval_visual_reliance_score`` and its accuracies whenever the trainer evaluates.

    ``trainer.add_callback(VisualRelianceCallback(trainer, rows))``; the score can be ``metric_for_best_model``. A score
    that is not defined (nothing was right to begin with) is NaN there, and not logged. Every process answers its share;
    under FSDP, every question.

    Args:
        trainer: an ``SFTTrainer``, ``FiVLTrainer`` or other ``Trainer`` whose processing class is a processor.
        rows: conversation or benchmark rows with evidence.
        questions: number of rows, the first ones.
        conditions: see :mod:`fivl_hf.evaluation.conditions`.
        scorer_name: see :mod:`fivl_hf.evaluation.scorers`; the benchmark's own if not given.
        batch_size: questions at a time; the trainer's for evaluation if not given.
        max_new_tokens: longest answer.
        options: further ones of :class:`fivl_hf.evaluation.plan.Plan`.

    Raises:
        ValueError: no rows, rows that do not fit the schema, or an unknown scorer or condition.
    """

    def __init__(
        self,
        trainer: Any,
        rows: Iterable[Mapping[str, Any]],
        *,
        questions: int = 200,
        conditions: Sequence[str] = DEFAULT_CONDITIONS,
        scorer_name: str | None = None,
        batch_size: int | None = None,
        max_new_tokens: int = 32,
        **options: Any,
    ) -> None:
        if questions < 1:
            raise ValueError(f"questions must be at least 1, got {questions}")
        self._trainer = trainer
        self._plan = Plan(list(islice(rows, questions)), conditions, **options)
        if not self._plan.count:
            raise ValueError("there are no rows to measure visual reliance on")
        scorer(scorer_name or "exact")
        self._scorer = scorer_name or default_scorer(self._plan.source)
        self._batch_size = batch_size or trainer.args.per_device_eval_batch_size
        self._max_new_tokens = max_new_tokens
        self._last_step: int | None = None
        self._evaluated: set[str] = set()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure, add to the evaluation's metrics, and log."""
        # Once, though a trainer evaluates each of several datasets; again when one is evaluated again.
        metrics = kwargs.get("metrics", {})
        names = {name for name in metrics if name.endswith("_runtime")}
        if state.global_step == self._last_step and not names & self._evaluated:
            self._evaluated |= names
            return
        self._last_step, self._evaluated = state.global_step, names
        measured = self._measured()
        metrics.update(measured)
        self._trainer.log({name: value for name, value in measured.items() if not math.isnan(value)})

    def _measured(self) -> dict[str, float]:
        trainer, table = self._trainer, AnswerTable()
        accelerator = trainer.accelerator
        with unwrap_model_for_generation(trainer.model_wrapped, accelerator) as model:
            answerer = TransformersAnswerer(
                model, trainer.processing_class, batch_size=self._batch_size, max_new_tokens=self._max_new_tokens
            )
            # Processes that each hold a part of the model must all run it equally often.
            alone = trainer.is_fsdp_enabled or accelerator.num_processes == 1
            share = (0, 1) if alone else (accelerator.process_index, accelerator.num_processes)
            ask(answerer, self._plan, table, scorer_name=self._scorer, share=share)
        answers = list(table) if alone else gather_object(list(table))
        summary = summary_of(answers, self._plan, self._scorer, resamples=1)
        values = {f"eval_{logged}": summary[key] for key, logged in _LOGGED.items()}
        values["eval_unparsed_answers"] = unparsed_answers(summary)
        return {name: math.nan if value is None else value for name, value in values.items()}
