"""The Space of the metric: paste answers, see the score."""

import evaluate
import gradio as gr

METRIC = evaluate.load("visual_reliance_score.py")
EXAMPLE = ("yes\ntwo dogs\na red bus", "yes\na cat\na bus", "yes\ntwo dogs | 2 dogs\na red bus")


def lines(text: str) -> list[str]:
    # An empty line is an empty answer.
    return [line.strip() for line in text.rstrip("\n").split("\n")] if text.strip() else []


def score(answers: str, masked: str, references: str) -> str:
    """The metric's result as Markdown."""
    given, without, right = lines(answers), lines(masked), lines(references)
    if not given or not len(given) == len(without) == len(right):
        counts = f"{len(given)} answers, {len(without)} masked answers and {len(right)} references"
        return f"Every question needs a line in each of the three boxes: there are {counts}."
    accepted = [[each.strip() for each in line.split("|")] for line in right]
    result = METRIC.compute(predictions=given, masked_predictions=without, references=accepted)
    if result["visual_reliance_score"] is None:
        return f"**Undefined**: {result['reason']}"
    low, high = result["confidence_interval"] or (float("nan"), float("nan"))
    return (
        f"## {result['visual_reliance_score']:.3f}\n\n95% interval {low:.3f} to {high:.3f}, {result['n']} questions\n\n"
        f"accuracy {result['accuracy']:.3f}; with the evidence blacked out {result['masked_accuracy']:.3f}\n\n"
        "1: every right answer needed the evidence. 0: none did. Negative: better without it."
    )


with gr.Blocks(title="Visual Reliance Score") as demo:
    gr.Markdown(
        "# Visual Reliance Score\nHow far accuracy falls when the evidence is blacked out. One question per line."
    )
    with gr.Row():
        boxes = [
            gr.Textbox(EXAMPLE[0], lines=8, label="Answers on the original images"),
            gr.Textbox(EXAMPLE[1], lines=8, label="Answers with the evidence blacked out"),
            gr.Textbox(EXAMPLE[2], lines=8, label="Right answers, alternatives separated by |"),
        ]
    button = gr.Button("Score", variant="primary")
    shown = gr.Markdown()
    button.click(score, boxes, shown, api_name="score")

if __name__ == "__main__":
    demo.launch()
