"""How good must masks be? Trains with filled or jittered boxes, missed or wrong objects, and masks at random places.

python examples/ablations/mask_quality.py

Objects lie on patch corners, where Vision Modeling with exact masks improves segmentation most. A gain is the
difference from λ = 0, seed by seed. The threshold is the share of masks with an error at which a line through the gains
reaches 0.
"""

import numpy as np
from study import Setting, arguments, measured
from tables import Results, mean_text, publish, seed_values
from vision_modeling import SETTINGS as EXACT

RATES = {"missed": (0.4, 0.8), "wrong": (0.25, 0.5)}
_OTHERS = {
    "boxes filled": ("filled", 1.0),
    "boxes jittered": ("jittered", 1.0),
    **{f"{rate:.0%} {error}": (error, rate) for error, rates in RATES.items() for rate in rates},
    "random places": ("random", 1.0),
}
_NONE, _EXACT = "λ = 0", "exact"
SETTINGS = {
    _NONE: EXACT["grid, λ = 0"],
    _EXACT: EXACT["grid, λ = 0.1"],
    **{
        label: Setting(weight=0.1, start="pretrained", style="grid", mask_error=error, rate=rate)
        for label, (error, rate) in _OTHERS.items()
    },
}


def main() -> None:
    options = arguments(__doc__, seeds=3)
    results = measured(options, SETTINGS)
    columns = ["accuracy", "IoU", "AUROC", "probe, language model", "VRS"]
    compared = {f"{label}: gain": (label, _NONE) for label in SETTINGS if label != _NONE}
    compared["exact − random places"] = (_EXACT, "random places")
    thresholds = [f"{error}: {_threshold(results, error)}" for error in RATES]
    note = f"Share of masks at which the IoU gain vanishes: {'; '.join(thresholds)}."
    publish(options, "mask_quality", "Quality of masks", results, columns, "masks", compared, note=note)


def _threshold(results: Results, error: str) -> str:
    """Return the error rate at which the IoU gain reaches 0, with its range over seeds, or why there is none."""
    rates = (0.0, *RATES[error])
    labels = (_EXACT, *(f"{rate:.0%} {error}" for rate in RATES[error]))
    none = seed_values(results[_NONE], "IoU")
    gains = np.stack([seed_values(results[label], "IoU") - none for label in labels])  # (rates, seeds)
    if gains[0].mean() <= 0:
        return "no gain to lose"
    if gains[-1].mean() > 0:
        return f"above {max(rates):.0%}, where the gain is {mean_text(gains[-1])}"
    slopes, intercepts = np.polyfit(rates, np.column_stack([gains.mean(axis=1), gains]), 1)
    crossings = -intercepts / slopes
    return f"{crossings[0]:.0%} (seeds: {crossings[1:].min():.0%} to {crossings[1:].max():.0%})"


if __name__ == "__main__":
    main()
