"""Can more carry over? Training on several styles, and a smaller λ.

python examples/ablations/remedies.py

With "more styles", one training row in three is outlined and one shows photographs; pairs that are held out stay so,
and "flipped", where shapes have other usual colours, is still new.
"""

from loss_weight import SETTINGS as WEIGHTS
from measuring import fewer
from study import Setting, arguments, measured
from tables import publish

_STYLES = "free+outlined+photographs"
SETTINGS = {
    "λ = 0": WEIGHTS["0"],
    "λ = 0.03": WEIGHTS["0.03"],
    "λ = 0.1": WEIGHTS["0.1"],
    **{
        f"more styles, λ = {weight:g}": Setting(weight=weight, start="pretrained", style=_STYLES)
        for weight in (0.0, 0.1)
    },
}


def main() -> None:
    options = arguments(__doc__, seeds=3)
    results = measured(options, SETTINGS)
    kinds = ("seen pairs", "unseen pairs", "outlined", "photographs", "flipped")
    columns = ["accuracy", *(f"accuracy, {kind}" for kind in kinds)]
    compared = {
        "smaller λ: difference": ("λ = 0.03", "λ = 0"),
        "λ = 0.1: difference": ("λ = 0.1", "λ = 0"),
        "more styles: difference": ("more styles, λ = 0.1", "more styles, λ = 0"),
    }
    note = f"Columns after the first: up to {fewer(options.test_rows)} questions."
    publish(options, "remedies", "Remedies for transfer", results, columns, "training", compared, note=note)


if __name__ == "__main__":
    main()
