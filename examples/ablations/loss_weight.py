"""What does λ cost the text? Captions beside answers and segmentation, λ from 0 to 1 and falling to 0.

python examples/ablations/loss_weight.py
"""

from study import Setting, arguments, measured
from tables import publish

WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0)
SCHEDULES = ("linear", "cosine")


def _setting(weight: float, schedule: str = "constant") -> Setting:
    return Setting(weight=weight, schedule=schedule, start="pretrained", style="free")


SETTINGS = {
    **{f"{weight:g}": _setting(weight) for weight in WEIGHTS},
    **{f"0.3, {schedule}": _setting(0.3, schedule) for schedule in SCHEDULES},
}


def main() -> None:
    options = arguments(__doc__, seeds=3)
    results = measured(options, SETTINGS)
    columns = ["BLEU", "ROUGE-L", "perplexity", "accuracy", "accuracy, relation", "VRS", "IoU", "AUROC"]
    compared = {f"{label}: difference from 0": (label, "0") for label in SETTINGS if label != "0"}
    publish(options, "loss_weight", "λ against text", results, columns, "λ", compared)


if __name__ == "__main__":
    main()
