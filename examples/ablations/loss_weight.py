"""How does λ trade text against grounding? Captions, answers and segmentation for λ from 0 to 1 and its schedules.

python examples/ablations/loss_weight.py
"""

from study import Setting, arguments, measured
from tables import publish

WEIGHTS = (0.0, 0.03, 0.1, 0.3, 0.6, 1.0)
SETTINGS = {f"{weight:g}": Setting(weight=weight, start="pretrained", style="free") for weight in WEIGHTS} | {
    f"0.3, {schedule} to 0": Setting(weight=0.3, schedule=schedule, start="pretrained", style="free")
    for schedule in ("linear", "cosine")
}


def main() -> None:
    options = arguments(__doc__)
    results = measured(options, SETTINGS)
    columns = ["BLEU", "ROUGE-L", "perplexity", "accuracy", "VRS", "IoU", "AUROC"]
    publish(options, "loss_weight", "λ against text", results, columns, "λ")


if __name__ == "__main__":
    main()
