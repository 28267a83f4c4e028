"""The Space of the metric: paste attention and coverage, see which heads look at the evidence."""

import evaluate

from fivl_hf.evaluation.spaces import Field, metric_page, parse_lines
from fivl_hf.show.gradio_pages import launch

METRIC = evaluate.load("head_alignment.py")
EXAMPLE = ("[[[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]]]", "[0.0, 1.0, 0.2]")
EXPLANATION = """\
Which attention heads rank the image tokens as the mask of the evidence does? Spearman's rank correlation, averaged over
samples. **1**: exactly as the mask. **0**: unrelated to the mask. **Negative**: away from the evidence.

A sample is one key expression of one answer: the attention from its tokens to the image tokens (of every layer and
head), and the share of each image token that the expression's mask covers. One sample per line, in both boxes.
"""
FIELDS = (
    Field("Attention", "A JSON list per line: layers × heads × image tokens", EXAMPLE[0]),
    Field("Coverage", "A JSON list per line: how much of each image token the mask covers, from 0 to 1", EXAMPLE[1]),
)


def score(attention: str, coverage: str) -> str:
    """Return the metric's result as Markdown."""
    try:
        given, masks = parse_lines(attention, "Attention"), parse_lines(coverage, "Coverage")
        if not given or len(given) != len(masks):
            return f"A line per sample in both boxes: there are {len(given)} and {len(masks)}."
        result = METRIC.compute(predictions=given, references=masks)
    except (ValueError, TypeError, IndexError) as error:
        return f"This could not be read: {error}"
    rows = "\n".join(f"| {head['layer']} | {head['head']} | {head['score']:.3f} |" for head in result["top_heads"])
    table = f"The best heads, counted from 0:\n\n| layer | head | correlation |\n|---|---|---|\n{rows}"
    return f"{result['n']} of {len(given)} samples count (a mask over all tokens or none ranks nothing).\n\n{table}"


demo = metric_page("Head alignment", EXPLANATION, FIELDS, score)

if __name__ == "__main__":
    launch(demo)
