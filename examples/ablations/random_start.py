"""Does Vision Modeling help from random weights, where the vision tower learns, too?

python examples/ablations/random_start.py
"""

from study import Setting, arguments, measured
from tables import publish
from vision_modeling import STYLES

SETTINGS = {
    f"{style}, λ = {weight:g}": Setting(weight=weight, start="random", style=style)
    for style in STYLES
    for weight in (0.0, 0.1)
}


def main() -> None:
    options = arguments(__doc__, seeds=3, steps=600)
    results = measured(options, SETTINGS)
    columns = ["accuracy", "accuracy, black image", "VRS", "IoU", "AUROC", "probe, most frequent", "probe, tower"]
    compared = {f"{style}: difference": (f"{style}, λ = 0.1", f"{style}, λ = 0") for style in STYLES}
    title = "With and without Vision Modeling, from random weights"
    publish(options, "random_start", title, results, columns, "scenes, λ", compared)


if __name__ == "__main__":
    main()
