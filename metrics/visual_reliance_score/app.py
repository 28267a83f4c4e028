"""The Space of the metric: paste answers, see the score."""

import evaluate

from fivl_hf.evaluation.spaces import Field, metric_page
from fivl_hf.show.gradio_pages import launch

METRIC = evaluate.load("visual_reliance_score.py")
EXAMPLE = ("yes\ntwo dogs\na red bus", "yes\na cat\na bus", "yes\ntwo dogs | 2 dogs\na red bus")
EXPLANATION = """\
How far does accuracy fall when the evidence is blacked out? (accuracy − accuracy without the evidence) / accuracy.
**1**: every right answer needed the evidence. **0**: none did. **Negative**: better without it.

The same questions are asked twice: about the original images, and with the boxes of the evidence blacked out. One
question per line, in all three boxes. Answers are right when they equal a right answer but for case and punctuation.
"""
FIELDS = (
    Field("Answers", "The model's answer to each question about the original image", EXAMPLE[0]),
    Field("Answers without the evidence", "Its answer with the evidence blacked out", EXAMPLE[1]),
    Field("Right answers", "What is right; alternatives are separated by |", EXAMPLE[2]),
)


def lines(text: str) -> list[str]:
    # An empty line is an empty answer.
    return [line.strip() for line in text.rstrip("\n").split("\n")] if text.strip() else []


def score(answers: str, masked: str, references: str) -> str:
    """Return the metric's result as Markdown."""
    given, without, right = lines(answers), lines(masked), lines(references)
    if not given or not len(given) == len(without) == len(right):
        counts = f"{len(given)} answers, {len(without)} without the evidence and {len(right)} right answers"
        return f"A line per question in each of the three boxes: there are {counts}."
    accepted = [[each.strip() for each in line.split("|")] for line in right]
    result = METRIC.compute(predictions=given, masked_predictions=without, references=accepted)
    if result["visual_reliance_score"] is None:
        return f"**Undefined**: {result['reason']}"
    low, high = result["confidence_interval"] or (None, None)
    interval = "" if low is None else f"95% interval {low:.3f} to {high:.3f}, "
    return (
        f"## {result['visual_reliance_score']:.3f}\n\n{interval}{result['n']} questions\n\n"
        f"Accuracy {result['accuracy']:.3f}; with the evidence blacked out {result['masked_accuracy']:.3f}."
    )


demo = metric_page("Visual Reliance Score", EXPLANATION, FIELDS, score)

if __name__ == "__main__":
    launch(demo)
