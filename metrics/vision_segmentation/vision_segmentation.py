"""Vision segmentation: IoU of the patches that predict a keyword with the keyword's mask."""

from typing import Any

import datasets
import evaluate

from fivl_hf.evaluation.metrics import CITATION
from fivl_hf.explain.segmentation import segmentation_scores

_DESCRIPTION = """\
Segmentation from the vision logits of FiVL: the language-model head is read at every image token; the tokens that
predict an expression's keyword are compared with those its mask covers. iou is
1 for the same tokens and 0 for none in common.
"""

_INPUTS = """\
Args:
    predictions (list of tokens): the predicted vocabulary id at each image token, one list per sample.
    references (list of tokens): 1 where the expression's mask covers the image token, else 0; of a
        coverage, all above 0 counts.
    keyword_ids (list of int): the id of each sample's keyword.
Returns:
    iou (mean over samples, or None), n, detected (share of samples whose keyword is predicted anywhere),
    tokens_per_sample (different tokens predicted), skipped (samples whose mask covers no token).
Examples:
    >>> import fivl_hf
    >>> segmentation = fivl_hf.load_metric("vision_segmentation")
    >>> segmentation.compute(predictions=[[7, 7, 9, 9]], references=[[1, 0, 0, 0]], keyword_ids=[7])
    {'iou': 0.5, 'n': 1, 'detected': 1.0, 'tokens_per_sample': 2.0, 'skipped': 0}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class VisionSegmentation(evaluate.Metric):
    """IoU from predicted ids; the mathematics is in :mod:`fivl_hf.explain.segmentation`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("int64")),
                    "references": datasets.Sequence(datasets.Value("float32")),
                    "keyword_ids": datasets.Value("int64"),
                }
            ),
        )

    def _compute(
        self, predictions: list[list[int]], references: list[list[float]], keyword_ids: list[int]
    ) -> dict[str, Any]:
        return segmentation_scores(predictions, references, keyword_ids)
