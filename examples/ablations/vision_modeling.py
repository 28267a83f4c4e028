"""Does Vision Modeling help? From a pretrained start (the paper's) and random weights, with free and with easy places.

python examples/ablations/vision_modeling.py
"""

from study import Setting, arguments, measured
from tables import publish

SETTINGS = {
    f"{start}, {style}, λ = {weight:g}": Setting(weight=weight, start=start, style=style)
    for start in ("pretrained", "random")
    for style in ("free", "grid")
    for weight in (0.0, 0.1)
}


def main() -> None:
    options = arguments(__doc__)
    results = measured(options, SETTINGS)
    columns = ["accuracy", "VRS", "VRS, random boxes", "IoU", "AUROC", "probe, tower", "probe, language model"]
    compared = {
        f"{start}, {style}: difference": (f"{start}, {style}, λ = 0.1", f"{start}, {style}, λ = 0")
        for start in ("pretrained", "random")
        for style in ("free", "grid")
    }
    title = "With and without Vision Modeling"
    publish(options, "vision_modeling", title, results, columns, "start, scenes, λ", compared)


if __name__ == "__main__":
    main()
