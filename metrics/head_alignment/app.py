"""The Space of the metric: paste attention and coverage, see which heads look at the evidence."""

import json

import evaluate
import gradio as gr

METRIC = evaluate.load("head_alignment.py")
EXAMPLE = ("[[[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]]]", "[0.0, 1.0, 0.2]")


def score(attention: str, coverage: str) -> str:
    """The metric's result as Markdown."""
    try:
        given = [json.loads(line) for line in attention.splitlines() if line.strip()]
        masks = [json.loads(line) for line in coverage.splitlines() if line.strip()]
        result = METRIC.compute(predictions=given, references=masks)
    except (ValueError, TypeError, IndexError) as error:
        return f"One sample per line in both boxes, as JSON lists: {error}"
    rows = "\n".join(f"| {head['layer']} | {head['head']} | {head['score']:.3f} |" for head in result["top_heads"])
    return f"{result['n']} samples\n\n| layer | head | Spearman |\n|---|---|---|\n{rows}"


with gr.Blocks(title="Head alignment") as demo:
    gr.Markdown("# Head alignment\nWhich attention heads rank the image tokens as the mask does. One sample per line.")
    with gr.Row():
        boxes = [
            gr.Textbox(EXAMPLE[0], lines=8, label="Attention to the image tokens: layers × heads × tokens"),
            gr.Textbox(EXAMPLE[1], lines=8, label="The mask's coverage of the tokens, 0 to 1"),
        ]
    button = gr.Button("Score", variant="primary")
    shown = gr.Markdown()
    button.click(score, boxes, shown, api_name="score")

if __name__ == "__main__":
    demo.launch()
