"""The Space of the metric: paste predicted ids and masks, see the IoU."""

import json

import evaluate
import gradio as gr

METRIC = evaluate.load("vision_segmentation.py")
EXAMPLE = ("[7, 7, 9, 9]", "[1, 0, 0, 0]", "7")


def score(predicted: str, masks: str, keywords: str) -> str:
    """The metric's result as Markdown."""
    try:
        columns = [
            [json.loads(line) for line in text.splitlines() if line.strip()] for text in (predicted, masks, keywords)
        ]
        result = METRIC.compute(predictions=columns[0], references=columns[1], keyword_ids=columns[2])
    except (ValueError, TypeError, IndexError) as error:
        return f"One sample per line in all three boxes: {error}"
    iou = "undefined: no mask covers a token" if result["iou"] is None else f"{result['iou']:.3f}"
    return f"## IoU {iou}\n\n{result['n']} samples, {result['skipped']} skipped"


with gr.Blocks(title="Vision segmentation") as demo:
    gr.Markdown(
        "# Vision segmentation\nIoU of the image tokens that predict a keyword with its mask. One sample per line."
    )
    with gr.Row():
        boxes = [
            gr.Textbox(EXAMPLE[0], lines=8, label="Predicted vocabulary id at each image token"),
            gr.Textbox(EXAMPLE[1], lines=8, label="1 where the mask covers the token, else 0"),
            gr.Textbox(EXAMPLE[2], lines=8, label="Id of the keyword"),
        ]
    button = gr.Button("Score", variant="primary")
    shown = gr.Markdown()
    button.click(score, boxes, shown, api_name="score")

if __name__ == "__main__":
    demo.launch()
