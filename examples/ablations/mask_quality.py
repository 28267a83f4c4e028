"""How good must masks be? Exact ones, ones with a detector's errors, and random ones; where is the gain gone?

python examples/ablations/mask_quality.py

The gain is the accuracy with masks minus that without (λ = 0), seed by seed. For missed and for wrong masks, the rate
at which a straight line through the gains meets 0 is the threshold; its interval comes from lines through the gains of
resampled seeds.
"""

import argparse

import numpy as np
from study import Setting, arguments, measured
from tables import Results, interval_text, publish, seed_values

COMMON = Setting(start="pretrained", style="free")
MISSED = (0.2, 0.4, 0.6, 0.8)
WRONG = (0.1, 0.25, 0.5)
SETTINGS = {
    "no masks (λ = 0)": Setting(weight=0.0, start="pretrained", style="free"),
    "exact": COMMON,
    "boxes, filled": Setting(mask_error="filled", start="pretrained", style="free"),
    "boxes, jittered and filled": Setting(mask_error="jittered", start="pretrained", style="free"),
    **{
        f"{rate:.0%} missed": Setting(mask_error="missed", rate=rate, start="pretrained", style="free")
        for rate in MISSED
    },
    **{
        f"{rate:.0%} of a wrong object": Setting(mask_error="wrong", rate=rate, start="pretrained", style="free")
        for rate in WRONG
    },
    "at random places": Setting(mask_error="random", start="pretrained", style="free"),
}


def main() -> None:
    options = arguments(__doc__, seeds=3)
    results = measured(options, SETTINGS)
    compared = {f"gain, {name}": (name, "no masks (λ = 0)") for name in list(SETTINGS)[1:]}
    columns = ["accuracy", "VRS", "IoU", "AUROC"]
    publish(options, "mask_quality", "How good must masks be?", results, columns, "masks", compared)
    _write_thresholds(options, results)


def _write_thresholds(options: argparse.Namespace, results: Results) -> None:
    """Add the thresholds below the table."""
    lines = []
    for title, rates in (("missed", MISSED), ("of a wrong object", WRONG)):
        gains = np.stack(
            [
                seed_values(results[group], "accuracy") - seed_values(results["no masks (λ = 0)"], "accuracy")
                for group in ("exact", *(f"{rate:.0%} {title}" for rate in rates))
            ]
        )
        lines.append(f"Gain in accuracy is gone at masks {title}: {_threshold((0.0, *rates), gains)}.")
    print("\n".join(lines))
    path = options.output / "mask_quality.md"
    path.write_text(path.read_text(encoding="utf-8") + "\n" + "\n".join(lines) + "\n", encoding="utf-8")


def _threshold(rates: tuple[float, ...], gains: np.ndarray) -> str:
    """Return the rate at which the fitted line is 0, with the interval over resampled seeds; (R, seeds) gains."""
    rng = np.random.default_rng(0)
    seeds = gains.shape[1]
    draws = [_root(rates, gains[:, rng.integers(seeds, size=seeds)].mean(axis=1)) for _ in range(2000)]
    value = _root(rates, gains.mean(axis=1))
    if not 0 <= value <= 1:
        return "nowhere between 0 and 1: the gain does not fall to 0 there, or there is none"
    return interval_text(value, np.quantile(np.clip(draws, 0, 1), [0.025, 0.975]).tolist())


def _root(rates: tuple[float, ...], gains: np.ndarray) -> float:
    slope, intercept = np.polyfit(rates, gains, 1)
    return float(-intercept / slope) if slope < 0 < intercept else np.inf if intercept > 0 else -np.inf


if __name__ == "__main__":
    main()
