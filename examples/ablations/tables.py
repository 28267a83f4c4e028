"""Tables and charts of the ablations, made again from the committed runs by the same commands."""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t as student
from study import BATCH

__all__ = ["Compared", "Results", "interval_text", "mean_text", "publish", "seed_values", "write_table"]

Compared = Mapping[str, tuple[str, str]]
Results = Mapping[str, Sequence[Mapping[str, Any]]]
_BLUE = "#0072b2"
_ACROSS = 5  # panels in a line
_LARGE = 100.0  # a panel with larger values, of perplexity, is logarithmic from 1 on


def seed_values(runs: Sequence[Mapping[str, Any]], column: str) -> np.ndarray:
    """Return a figure of each seed's run; NaN where it is undefined."""
    return np.array([np.nan if run.get(column) is None else run[column] for run in runs], dtype=np.float64)


def _interval_of_mean(values: np.ndarray) -> tuple[float, float] | None:
    """Return the 95% t-interval of the mean over seeds; None with fewer than two."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return None
    half = student.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return float(known.mean() - half), float(known.mean() + half)


def interval_text(value: float, interval: Sequence[float] | None, digits: int = 2) -> str:
    """Return "0.74 [0.70, 0.78]"."""
    if not np.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text if interval is None else f"{text} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def write_table(path: Path, title: str, header: Sequence[str], lines: Sequence[Sequence[str]], note: str) -> None:
    """Print a table and write it to ``path`` with the suffix ``.md``."""
    table = "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines])
    print(f"\n{title}\n\n{table}\n\n{note}")
    path.with_suffix(".md").write_text(f"# {title}\n\n{table}\n\n{note}\n", encoding="utf-8")


def publish(
    options: argparse.Namespace,
    name: str,
    title: str,
    results: Results,
    columns: Sequence[str],
    x_label: str,
    compared: Compared | None = None,
    note: str = "",
    questions: str = "",
) -> None:
    """Write ``NAME.md``, the means over the seeds with their 95% intervals, and ``NAME.png``.

    Args:
        compared: lines that are differences between two settings, seed by seed: "with" minus "without".
        note: further sentences below the table.
        questions: how many were asked, where it is not ``options.test_rows``.
    """
    lines = [[label, *(mean_text(seed_values(runs, column)) for column in columns)] for label, runs in results.items()]
    for label, (one, other) in (compared or {}).items():
        pairs = [seed_values(results[one], column) - seed_values(results[other], column) for column in columns]
        lines.append([label, *(mean_text(pair) for pair in pairs)])
    sizes = (
        f"{options.seeds} seeds, {options.steps} steps of {BATCH}, {questions or f'{options.test_rows} questions'}. "
        "Means over the seeds, in brackets their 95% t-intervals; differences are taken seed by seed."
    )
    write_table(options.output / name, title, [x_label, *columns], lines, f"{sizes} {note}".rstrip())
    _chart(title, results, columns, x_label).savefig(options.output / f"{name}.png", dpi=110)


def mean_text(values: np.ndarray) -> str:
    """Return the mean over the seeds and its interval; "–" where no seed has a value."""
    return interval_text(float(np.nanmean(values)) if np.isfinite(values).any() else np.nan, _interval_of_mean(values))


def _chart(title: str, results: Results, columns: Sequence[str], x_label: str) -> Figure:
    """Return one panel per column: every seed a dot, the mean a bar."""
    across = min(_ACROSS, len(columns))
    down = math.ceil(len(columns) / across)
    figure = Figure(figsize=(2.0 + 2.3 * across, 0.4 + (1.0 + 0.34 * len(results)) * down), layout="constrained")
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for panel in grid.flat[len(columns) :]:
        panel.set_visible(False)
    places = np.arange(len(results))
    for panel, column in zip(grid.flat, columns, strict=False):
        values = [seed_values(runs, column) for runs in results.values()]
        means = [np.nanmean(line) if np.isfinite(line).any() else np.nan for line in values]
        panel.barh(places, means, color=_BLUE, alpha=0.35)
        for place, line in zip(places, values, strict=True):
            panel.plot(line, np.full(len(line), place), "o", color=_BLUE, markersize=4)
        panel.set(title=column, yticks=places, yticklabels=list(results))
        known = [0.0, *(value for line in values for value in line[np.isfinite(line)])]
        lowest, highest = min(known), max(known)
        if highest > _LARGE:
            panel.set(xscale="log", xlim=(1, 2 * highest))
        else:
            panel.set(xlim=(min(0, lowest - 0.03), max(1, highest + 0.03)))
        panel.grid(axis="x", alpha=0.3)
    grid[0, 0].invert_yaxis()
    for panel in grid[:, 0]:
        panel.set_ylabel(x_label)
    figure.suptitle(title)
    return figure
