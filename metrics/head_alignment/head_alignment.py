"""Head alignment: the rank correlation of each attention head with the mask of a key expression."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from fivl_hf.evaluation.metrics import CITATION
from fivl_hf.explain.alignment import align, summary
from fivl_hf.explain.measures import LOWER_IS_BETTER

_DESCRIPTION = """\
Head alignment of FiVL: for each layer and head, Spearman's correlation between the attention from a key expression's
token to the image tokens and the mask's coverage of those tokens, averaged over samples. 1: the head ranks the patches
as the mask does; 0: its attention is unrelated to the mask; negative: it looks away from the evidence.
"""

_INPUTS = """\
Args:
    predictions (list of layers x heads x tokens): attention to the image tokens, one array per sample. The number of
        tokens may differ between samples.
    references (list of tokens): the mask's coverage of each image token, 0 to 1, one list per sample.
    top (int): how many of the best heads to list. Default 5.
    measures (list of str): further measures: auroc (free of the mask's size), average_precision, pointing_game,
        mass_lift, mse, spearman.
Returns:
    alignment (layers x heads; null for a head without any correlation), top_heads (layer, head, score, counted from 0),
    n (samples that count; those with constant coverage do not), all by Spearman's correlation; measures (of each one
    asked for, the same), if any were.
Examples:
    >>> import fivl_hf
    >>> alignment = fivl_hf.load_metric("head_alignment")
    >>> result = alignment.compute(predictions=[[[[0.1, 0.6, 0.3], [0.6, 0.1, 0.3]]]], references=[[0.0, 1.0, 0.2]])
    >>> result["alignment"]
    [[1.0, -1.0]]
    >>> result["top_heads"][0]
    {'layer': 0, 'head': 0, 'score': 1.0}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class HeadAlignment(evaluate.Metric):
    """Alignment from attention arrays; the mathematics is in :mod:`fivl_hf.explain.alignment`."""

    def _info(self) -> evaluate.MetricInfo:
        attention = datasets.Sequence(datasets.Sequence(datasets.Sequence(datasets.Value("float32"))))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": attention, "references": datasets.Sequence(datasets.Value("float32"))}
            ),
        )

    def _compute(
        self, predictions: list[Any], references: list[Any], top: int = 5, measures: Sequence[str] = ()
    ) -> dict[str, Any]:
        samples = zip(map(np.asarray, predictions), map(np.asarray, references), strict=True)
        found = {
            name: summary(result, top, higher_is_better=name not in LOWER_IS_BETTER)
            for name, result in align(samples, ["spearman", *measures]).items()
        }
        return {**found["spearman"], **({"measures": {name: found[name] for name in measures}} if measures else {})}
