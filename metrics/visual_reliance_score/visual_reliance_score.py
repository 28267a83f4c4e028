"""Visual Reliance Score: how far a model's accuracy falls when the evidence is blacked out."""

from typing import Any

import datasets
import evaluate

from fivl_hf.evaluation.metrics import CITATION
from fivl_hf.evaluation.reliance import reliance_of_answers, visual_reliance_score

_DESCRIPTION = """\
Visual Reliance Score (VRS) of FiVL: (accuracy - masked accuracy) / accuracy, where the masked answers were given to the
same questions with the bounding boxes of their key expressions blacked out. 1: every right answer needed the evidence;
0: none did; negative: the model does better without it. Undefined (null, with a reason) when no answer is right.
"""

_INPUTS = """\
Args:
    predictions (list of str): the model's answers on the original images.
    masked_predictions (list of str): its answers on the masked images, in the same order.
    references (list of list of str): the right answers of each question; matching any of them counts.
    scores, masked_scores (list of float): in place of the three above, the scores of the answers, 0 to 1.
    scorer (str): how answers are compared: "exact" (default), "contains", "gqa", "vqa", "rouge", "bleu",
        "pope-lmms-eval", "pope-vlmevalkit" or "pope-llava".
    groups (list): what questions are resampled together, such as the image's name. Default: each alone.
    resamples (int): paired bootstrap resamples for the confidence interval. Default 10000.
    confidence (float): coverage of the interval. Default 0.95.
    seed (int): of the resampling. Default 0.
Returns:
    visual_reliance_score (float or None), accuracy, masked_accuracy, n, confidence_interval ([low, high]), unparsed and
    masked_unparsed (answers that the scorer could not read, which are wrong), and reason when the score is undefined.
    "exact" compares after case folding and removal of outer punctuation.
Examples:
    >>> import fivl_hf
    >>> reliance = fivl_hf.load_metric("visual_reliance_score")
    >>> result = reliance.compute(
    ...     predictions=["yes", "two dogs"], masked_predictions=["yes", "a cat"], references=[["yes"], ["two dogs"]]
    ... )
    >>> result["visual_reliance_score"], result["accuracy"], result["masked_accuracy"], result["n"]
    (0.5, 1.0, 0.5, 2)
    >>> reliance.compute(scores=[1.0, 0.6], masked_scores=[0.8, 0.0])["visual_reliance_score"]
    0.5
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class VisualRelianceScore(evaluate.Metric):
    """VRS from answers; the mathematics is in :mod:`fivl_hf.evaluation.reliance`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "masked_predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def compute(
        self, *, scores: list[float] | None = None, masked_scores: list[float] | None = None, **kwargs: Any
    ) -> dict[str, Any] | None:
        """Return the metric's result, of answers (see the metric's description) or of their scores.

        Raises:
            ValueError: scores beside answers, or one list of scores without the other.
        """
        if scores is None and masked_scores is None:
            return super().compute(**kwargs)
        answers = {"predictions", "masked_predictions", "references", "scorer"} & set(kwargs)
        if answers or scores is None or masked_scores is None:
            raise ValueError("give scores and masked_scores, or predictions, masked_predictions and references")
        return visual_reliance_score(scores, masked_scores, **kwargs)

    def _compute(
        self,
        predictions: list[str],
        masked_predictions: list[str],
        references: list[list[str]],
        scorer: str = "exact",
        groups: list[Any] | None = None,
        resamples: int = 10_000,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> dict[str, Any]:
        return reliance_of_answers(
            predictions,
            masked_predictions,
            references,
            scorer=scorer,
            groups=groups,
            resamples=resamples,
            confidence=confidence,
            seed=seed,
        )
