"""Does Vision Modeling help from a pretrained start, as in the paper? With free places and with easy ones.

python examples/ablations/vision_modeling.py
"""

import argparse

from study import Setting, arguments, measured
from tables import publish

from fivl_hf.demo.training import Start

STYLES = ("free", "grid")


def settings(start: Start) -> dict[str, Setting]:
    return {
        f"{style}, λ = {weight:g}": Setting(weight=weight, start=start, style=style)
        for style in STYLES
        for weight in (0.0, 0.1)
    }


SETTINGS = settings("pretrained")
COMPARED = {f"{style}: difference": (f"{style}, λ = 0.1", f"{style}, λ = 0") for style in STYLES}


def main() -> None:
    options = arguments(__doc__)
    compare(options, "vision_modeling", "With and without Vision Modeling, from a pretrained start", SETTINGS)


def compare(options: argparse.Namespace, name: str, title: str, settings: dict[str, Setting]) -> None:
    """Measure and publish both styles, with and without Vision Modeling."""
    columns = [
        *("accuracy", "accuracy, grey image", "VRS", "VRS, random boxes"),
        *("BLEU", "perplexity", "IoU", "AUROC", "probe, most frequent", "probe, tower", "probe, language model"),
    ]
    publish(options, name, title, measured(options, settings), columns, "scenes, λ", COMPARED)


if __name__ == "__main__":
    main()
