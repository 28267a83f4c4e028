"""Does it carry over? To unseen pairs of colour and shape, another style, photographs, other habits; and what helps?

python examples/ablations/transfer.py

Six pairs of colour and shape are held out of all training scenes. "Outlined" is a style that neither the vision tower
nor the training has seen; photographs the tower and the language model know from before; in "flipped" shapes have other
usual colours, so that what language alone would guess is wrong.
"""

from study import Setting, arguments, measured
from tables import publish

SETTINGS = {
    "λ = 0": Setting(weight=0.0, start="pretrained", style="free"),
    "λ = 0.1": Setting(weight=0.1, start="pretrained", style="free"),
    "λ = 0.03": Setting(weight=0.03, start="pretrained", style="free"),
    "λ = 0, more styles": Setting(weight=0.0, start="pretrained", style="free+even+flipped"),
    "λ = 0.1, more styles": Setting(weight=0.1, start="pretrained", style="free+even+flipped"),
}


def main() -> None:
    options = arguments(__doc__, seeds=3)
    results = measured(options, SETTINGS)
    kinds = ("seen pairs", "unseen pairs", "outlined", "photographs", "flipped")
    compared = {
        "λ = 0.1 - λ = 0": ("λ = 0.1", "λ = 0"),
        "the same, more styles": ("λ = 0.1, more styles", "λ = 0, more styles"),
    }
    columns = ["accuracy", *(f"accuracy, {kind}" for kind in kinds)]
    publish(options, "transfer", "Transfer", results, columns, "training", compared)


if __name__ == "__main__":
    main()
