"""Does the Visual Reliance Score predict how robust a model is? Rank correlations over all measured models.

python examples/ablations/robustness.py

It takes whatever free and grid models the other ablations have measured. Ranks are taken among models that were asked
the same questions. The partial correlation is that of what remains of both ranks after a regression on accuracy's.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attack import EPSILONS
from changes import IMAGE_CHANGES
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import bootstrap, rankdata
from study import RESULTS
from tables import interval_text, write_table

from fivl_hf.scenes.catalog import ALIGNED

CHANGES = (*IMAGE_CHANGES, *(f"PGD {epsilon}/255" for epsilon in EPSILONS[:2]), "outlined", "flipped")
RESAMPLES = 2_000
Values = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for table, image and runs")
    options = parser.parse_args()
    groups, runs = _models(options.output / "runs")
    reliance, accuracy = (_ranks([run[column] for run in runs], groups) for column in ("VRS", "accuracy"))
    changed = {kind: _ranks([run[f"accuracy, {kind}"] for run in runs], groups) for kind in CHANGES}
    lines = [
        [kind, _text(_correlation, reliance, after, accuracy), _text(_partial, reliance, after, accuracy)]
        for kind, after in changed.items()
    ]
    lines.append(["none", _text(_correlation, reliance, accuracy, accuracy), "–"])
    sizes = ", ".join(f"{groups.count(name)} of {name} scenes" for name in sorted(set(groups)))
    write_table(
        options.output / "robustness",
        "Does the Visual Reliance Score predict robustness?",
        ["accuracy after", "rank correlation with VRS", "the same, given accuracy"],
        lines,
        f"{len(runs)} models, {sizes}; in brackets 95% intervals of a bootstrap over models.",
    )
    _chart(runs, groups).savefig(options.output / "robustness.png", dpi=110)


def _models(folder: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the scenes that every model was asked about, and its figures, in an order that files' names do not set."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    known = [each for each in documents if each["setting"].get("style", ALIGNED) != ALIGNED]
    known.sort(key=lambda each: json.dumps(each["setting"], sort_keys=True))
    return ["grid" if each["setting"]["style"] == "grid" else "free" for each in known], [e["result"] for e in known]


def _ranks(values: Sequence[float | None], groups: Sequence[str]) -> Values:
    """Return each model's rank within its group, about 0 and of the same spread in every group."""
    ranks = np.zeros(len(values))
    for name in set(groups):
        members = np.array([group == name for group in groups])
        found = rankdata(np.array(values, dtype=np.float64)[members])
        ranks[members] = (found - found.mean()) / len(found)
    return ranks


def _correlation(one: Values, other: Values, _: Values) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def _partial(one: Values, other: Values, given: Values) -> float:
    return _correlation(_rest(one, given), _rest(other, given), given)


def _rest(values: Values, given: Values) -> Values:
    """Return what a line through the given values does not explain."""
    return values - np.polyval(np.polyfit(given, values, 1), given)


def _text(statistic: Any, *data: Values) -> str:
    found = bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return interval_text(statistic(*data), found.confidence_interval)


def _chart(runs: Sequence[dict[str, Any]], groups: Sequence[str]) -> Figure:
    figure = Figure(figsize=(2.4 * len(CHANGES), 2.8), layout="constrained")
    for panel, kind in zip(figure.subplots(1, len(CHANGES), sharey=True), CHANGES, strict=True):
        for name, color in (("free", "#0072b2"), ("grid", "#d55e00")):
            members = [run for run, group in zip(runs, groups, strict=True) if group == name]
            values = [[run["VRS"], run[f"accuracy, {kind}"]] for run in members]
            panel.plot(*np.array(values, dtype=float).reshape(-1, 2).T, "o", color=color, markersize=4, label=name)
        panel.set(title=kind, xlabel="VRS")
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy after")
    figure.axes[0].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
