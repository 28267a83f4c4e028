"""How does λ trade answers against grounding?

python examples/ablations/loss_weight.py
"""

from study import Setting, arguments, measured, publish

WEIGHTS = (0.0, 0.03, 0.1, 0.3, 0.6, 1.0)


def main() -> None:
    options = arguments(__doc__)
    results = measured(options, {f"{weight:g}": Setting(weight=weight) for weight in WEIGHTS})
    publish(
        options,
        "loss_weight",
        "λ from 0 to 1",
        results,
        ["accuracy", "reliance", "random reliance", "IoU", "best head"],
        "λ",
    )


if __name__ == "__main__":
    main()
