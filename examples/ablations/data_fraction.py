"""Does Vision Modeling save data? The same number of steps over fewer rows.

python examples/ablations/data_fraction.py
"""

from study import Setting, arguments, measured
from tables import publish


def main() -> None:
    options = arguments(__doc__, seeds=3, steps=600, test_rows=300)
    settings = {
        f"{rows:,} rows, λ = {weight:g}": Setting(weight=weight, rows=rows)
        for rows in (10_000, 2_000, 500)
        for weight in (0.0, 0.1)
    }
    results = measured(options, settings)
    publish(
        options, "data_fraction", "Fewer rows", results, ["accuracy", "reliance", "IoU", "best head"], "training data"
    )


if __name__ == "__main__":
    main()
