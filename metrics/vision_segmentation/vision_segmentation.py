"""Vision segmentation: IoU of the patches that predict a keyword with the keyword's mask."""

from typing import Any

import datasets
import evaluate

from fivl_hf.evaluation.metrics import CITATION
from fivl_hf.explain.segmentation import prompted_segmentation_scores, segmentation_scores

_DESCRIPTION = """\
Segmentation from the vision logits of FiVL: the language-model head is read at every image token; the tokens that
predict an expression's keyword are compared with those its mask covers. iou is
1 for the same tokens and 0 for none in common. The configuration "prompted" measures as the paper's table does: against
a detector that was prompted with the predicted tokens.
"""

_INPUTS = """\
Args:
    predictions (list of tokens): the predicted vocabulary id at each image token, one list per sample.
    references (list of tokens): 1 where the expression's mask covers the image token, else 0; of a
        coverage, all above 0 counts.
    keyword_ids (list of int): the id of each sample's keyword.
Returns:
    iou (mean over samples, or None), n, keyword_predicted (share of samples whose keyword is predicted anywhere),
    tokens_per_sample (different tokens predicted), skipped (samples whose mask covers no token).

With the configuration "prompted":
    predictions: as above.
    references (list of list of masks): for each prompted token of a sample, the coverage of the mask found for it at
        each image token; an empty list where nothing was found.
    prompted_ids (list of list of int): the tokens that the detector was prompted with.
Returns:
    iou (mean over the prompted tokens with a detection, or None), n (how many those are), share_found (of all prompted
    tokens), tokens_per_sample (different tokens predicted).
Examples:
    >>> import fivl_hf
    >>> segmentation = fivl_hf.load_metric("vision_segmentation")
    >>> segmentation.compute(predictions=[[7, 7, 9, 9]], references=[[1, 0, 0, 0]], keyword_ids=[7])
    {'iou': 0.5, 'n': 1, 'keyword_predicted': 1.0, 'tokens_per_sample': 2.0, 'skipped': 0}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class VisionSegmentation(evaluate.Metric):
    """IoU from predicted ids; the mathematics is in :mod:`fivl_hf.explain.segmentation`."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in ("default", "prompted"):
            raise ValueError(f"the configuration is 'default' or 'prompted', got {self.config_name!r}")
        tokens, mask = datasets.Sequence(datasets.Value("int64")), datasets.Sequence(datasets.Value("float32"))
        more = {"references": mask, "keyword_ids": datasets.Value("int64")}
        if self.config_name == "prompted":
            more = {"references": datasets.Sequence(mask), "prompted_ids": tokens}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": tokens, **more}),
        )

    def _compute(
        self,
        predictions: list[list[int]],
        references: list[Any],
        keyword_ids: list[int] | None = None,
        prompted_ids: list[list[int]] | None = None,
    ) -> dict[str, Any]:
        if self.config_name == "prompted":
            return prompted_segmentation_scores(predictions, references, prompted_ids or [])
        return segmentation_scores(predictions, references, keyword_ids or [])
