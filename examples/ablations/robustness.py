"""Does the Visual Reliance Score predict how robust a model is? Rank correlations over the models of other ablations.

python examples/ablations/robustness.py

Models are compared with those that were asked the same questions and began with the same weights. The partial
correlation is that of what remains of both ranks after a regression on the ranks of accuracy, on the same questions
before they are changed. Models with λ = 1, which have not learnt to answer, are left out.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import loss_weight
import mask_quality
import numpy as np
import random_start
import remedies
import vision_modeling
from attack import EPSILONS
from changes import IMAGE_CHANGES
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata
from study import Setting, arguments, measured
from tables import interval_text, write_table

CHANGES = (*IMAGE_CHANGES, *(f"PGD {epsilon}/255" for epsilon in EPSILONS[:2]), "flipped")
PRETRAINED: list[Setting] = [
    *vision_modeling.SETTINGS.values(),
    # Filled boxes cover the same patches as exact masks: the same models.
    *(setting for label, setting in mask_quality.SETTINGS.items() if label != "boxes filled"),
    *remedies.SETTINGS.values(),
    *(setting for setting in loss_weight.SETTINGS.values() if setting.weight < 1),
]
RESAMPLES = 2_000
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Models:
    """M models: for each the group within which it is compared, the number of its setting, and its figures.

    The columns of ``values``, (M, 2 + changes), are VRS, accuracy before and accuracy after each of CHANGES.
    """

    groups: NDArray[np.str_]
    settings: NDArray[np.int_]
    values: Values

    def ranks(self, *columns: int) -> Values:
        """Return (columns, M) ranks within the groups, about 0 and of the same spread in each."""
        ranks = np.zeros((len(columns), len(self.groups)))
        for name in np.unique(self.groups):
            members = self.groups == name
            values = rankdata(self.values[members][:, columns], axis=0)
            ranks[:, members] = ((values - values.mean(axis=0)) / len(values)).T
        return ranks

    def resampled(self, rng: np.random.Generator) -> "Models":
        """Draw as many settings as there are, with replacement, each with all of its seeds."""
        count = self.settings.max() + 1
        places = np.concatenate([np.flatnonzero(self.settings == each) for each in rng.integers(0, count, count)])
        return Models(self.groups[places], self.settings[places], self.values[places])


def main() -> None:
    options = arguments(__doc__, seeds=3)
    models = _models(options)
    lines = [
        [kind, _text(partial(_correlation, column), models), _text(partial(_partial_correlation, column), models)]
        for column, kind in enumerate(CHANGES, start=2)
    ]
    sizes = ", ".join(f"{(models.groups == name).sum()} of {name}" for name in np.unique(models.groups))
    write_table(
        options.output / "robustness",
        "Does the Visual Reliance Score predict robustness?",
        ["accuracy after", "rank correlation with VRS", "the same, given accuracy before"],
        lines,
        f"{len(models.groups)} models ({sizes}); in brackets 95% intervals of a bootstrap over settings.",
    )
    _chart(models).savefig(options.output / "robustness.png", dpi=110)


def _models(options: argparse.Namespace) -> Models:
    random = argparse.Namespace(**{**vars(options), "steps": random_start.STEPS})
    groups, settings, values = [], [], []
    for number, (setting, runs) in enumerate(
        [*_measured(options, PRETRAINED), *_measured(random, random_start.SETTINGS.values())]
    ):
        for run in runs:
            if run["VRS"] is not None:
                groups.append(f"{'grid' if setting.style == 'grid' else 'free'} scenes from the {setting.start} start")
                settings.append(number)
                values.append([run["VRS"], *(run[f"accuracy, {kind}"] for kind in ("before changes", *CHANGES))])
    return Models(np.array(groups), np.array(settings), np.array(values, dtype=np.float64))


def _measured(options: argparse.Namespace, settings: Iterable[Setting]) -> list[tuple[Setting, list[dict]]]:
    """Return each setting once, with its runs."""
    unique = list(dict.fromkeys(settings))
    results = measured(options, {setting.name(): setting for setting in unique})
    return [(setting, results[setting.name()]) for setting in unique]


def _correlation(column: int, models: Models) -> float:
    reliance, after = models.ranks(0, column)
    return float(np.corrcoef(reliance, after)[0, 1])


def _partial_correlation(column: int, models: Models) -> float:
    reliance, before, after = models.ranks(0, 1, column)
    rest = [values - np.polyval(np.polyfit(before, values, 1), before) for values in (reliance, after)]
    return float(np.corrcoef(rest)[0, 1])


def _text(statistic: Callable[[Models], float], models: Models) -> str:
    rng = np.random.default_rng(0)
    resamples = [statistic(models.resampled(rng)) for _ in range(RESAMPLES)]
    return interval_text(statistic(models), np.nanpercentile(resamples, (2.5, 97.5)).tolist())


def _chart(models: Models) -> Figure:
    figure = Figure(figsize=(2.4 * len(CHANGES), 3), layout="constrained")
    for column, panel in enumerate(figure.subplots(1, len(CHANGES), sharey=True), start=2):
        for name in np.unique(models.groups):
            members = models.values[models.groups == name]
            panel.plot(members[:, 0], members[:, column], "o", markersize=4, label=name)
        panel.set(title=CHANGES[column - 2], xlabel="VRS")
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy after")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=4)
    return figure


if __name__ == "__main__":
    main()
