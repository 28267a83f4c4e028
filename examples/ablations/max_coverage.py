"""What does the limit on a mask's size do? Half of the masks, by chance, are a patch and a half too wide on every side.

python examples/ablations/max_coverage.py
"""

from study import Setting, arguments, measured
from tables import publish

LIMITS = (0.3, 0.5, 1.0)


def main() -> None:
    options = arguments(__doc__, seeds=3, steps=600, test_rows=300)
    settings = {f"{limit:g}": Setting(mask_error="swell half", max_coverage=limit) for limit in LIMITS}
    results = measured(options, {"λ = 0": Setting(weight=0.0), **settings, "0.3, exact masks": Setting()})
    publish(
        options,
        "max_coverage",
        "Largest mask that supervises, half of the masks swollen",
        results,
        ["accuracy", "reliance", "IoU", "best head"],
        "limit",
    )


if __name__ == "__main__":
    main()
