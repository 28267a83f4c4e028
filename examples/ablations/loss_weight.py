"""Does a larger λ make the text worse? Trains with λ from 0 to 1, constant or decaying to 0.

python examples/ablations/loss_weight.py

With λ = 1 the text itself is not trained at all. A schedule that decays to 0 halves the mean λ.
"""

from study import Setting, arguments, measured
from tables import publish

WEIGHTS = (0.0, 0.03, 0.1, 0.3, 0.7, 1.0)
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
    compared = {
        **{f"{label} − 0": (label, "0") for label in SETTINGS if label != "0"},
        **{f"0.3, {schedule} − 0.3": (f"0.3, {schedule}", "0.3") for schedule in SCHEDULES},
        "0.1 − 0.03": ("0.1", "0.03"),
        "0.3, linear − 0.1": ("0.3, linear", "0.1"),
    }
    publish(options, "loss_weight", "λ against text", results, columns, "λ", compared)


if __name__ == "__main__":
    main()
