"""Does Vision Modeling help from a pretrained start, as in the paper? With free places and with easy ones.

python examples/ablations/vision_modeling.py
"""

from study import Setting, arguments, measured
from tables import publish

STYLES = ("free", "grid")
SETTINGS = {
    f"{style}, λ = {weight:g}": Setting(weight=weight, start="pretrained", style=style)
    for style in STYLES
    for weight in (0.0, 0.1)
}


def main() -> None:
    options = arguments(__doc__)
    results = measured(options, SETTINGS)
    columns = [
        *("accuracy", "accuracy, black image", "VRS", "VRS, random boxes"),
        *("IoU", "AUROC", "probe, most frequent", "probe, tower", "probe, language model"),
    ]
    compared = {f"{style}: difference": (f"{style}, λ = 0.1", f"{style}, λ = 0") for style in STYLES}
    title = "With and without Vision Modeling, from a pretrained start"
    publish(options, "vision_modeling", title, results, columns, "scenes, λ", compared)


if __name__ == "__main__":
    main()
