"""Can more carry over? Training on several styles, and a smaller λ.

python examples/ablations/remedies.py

With "more styles", one training row in three is outlined and one shows photographs, so that these two columns are not
transfer for it, and it sees a third of the free rows. Pairs that are held out stay so, and "flipped", where shapes have
other usual colours, is still new.
"""

from loss_weight import SETTINGS as WEIGHTS
from study import Setting, arguments, measured
from transfer import publish_transfer

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
    compared = {
        "λ = 0.03 − λ = 0": ("λ = 0.03", "λ = 0"),
        "λ = 0.1 − λ = 0": ("λ = 0.1", "λ = 0"),
        "λ = 0: more styles − free": ("more styles, λ = 0", "λ = 0"),
        "more styles: λ = 0.1 − λ = 0": ("more styles, λ = 0.1", "more styles, λ = 0"),
    }
    publish_transfer(options, "remedies", "Remedies for transfer", results, "training", compared)


if __name__ == "__main__":
    main()
