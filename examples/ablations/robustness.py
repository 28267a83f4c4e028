"""Does a high Visual Reliance Score go with robustness? Blur, noise, occlusion, another style, attacked pixels.

python examples/ablations/robustness.py

Over all models of the ablations on free scenes that have been measured: Spearman's rank correlation of their score with
the share of their accuracy that survives, the same with accuracy held fixed (partial correlation of the ranks), and a
bootstrap interval over models.
"""

import json

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from study import arguments
from tables import interval_text, write_table

BEFORE = "accuracy, before changes"
KINDS = ("blur", "noise", "occlusion", "outlined", *(f"PGD {epsilon}/255" for epsilon in (2, 4, 8, 16)))
LOWEST = 0.2  # accuracy of a model that counts


def main() -> None:
    options = arguments(__doc__)
    documents = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((options.output / "runs").glob("*.json"))
    ]
    runs = [d["result"] for d in documents if d["setting"].get("start") == "pretrained" and d["result"].get(BEFORE)]
    runs = [run for run in runs if run[BEFORE] >= LOWEST and run["VRS"] is not None]
    if len(runs) < 5:
        raise SystemExit("fewer than five models have been measured: run the other ablations first")
    score, accuracy = (np.array([run[name] for run in runs]) for name in ("VRS", BEFORE))
    lines, panels = [], []
    for kind in KINDS:
        survives = np.array([run[f"accuracy, {kind}"] for run in runs]) / accuracy
        values = np.stack([score, survives, accuracy])
        lines.append([kind, f"{survives.mean():.2f}", *(_with_interval(values, how) for how in (_plain, _partial))])
        panels.append((kind, survives))
    title = f"Reliance and robustness, {len(runs)} models"
    note = "Brackets: 95% intervals of 2,000 resamples of the models."
    header = ["change", "accuracy that survives", "correlation with VRS", "given accuracy"]
    write_table(options.output / "robustness", title, header, lines, note)
    _scatter(title, score, panels).savefig(options.output / "robustness.png", dpi=110)


def _plain(values: np.ndarray) -> float:
    return float(spearmanr(values[0], values[1]).statistic)


def _partial(values: np.ndarray) -> float:
    """Return the correlation of the ranks of the first two with that of the third held fixed."""
    ranks = spearmanr(values, axis=1).statistic
    ab, ac, bc = ranks[0, 1], ranks[0, 2], ranks[1, 2]
    return float((ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2)))


def _with_interval(values: np.ndarray, statistic: object) -> str:
    rng = np.random.default_rng(0)
    count = values.shape[1]
    assert callable(statistic)
    draws = [statistic(values[:, rng.integers(count, size=count)]) for _ in range(2000)]
    return interval_text(statistic(values), np.nanquantile(draws, [0.025, 0.975]).tolist())


def _scatter(title: str, score: np.ndarray, panels: list[tuple[str, np.ndarray]]) -> Figure:
    figure = Figure(figsize=(11, 5), layout="constrained")
    for panel, (kind, survives) in zip(figure.subplots(2, 4, sharex=True, sharey=True).flat, panels, strict=True):
        panel.plot(score, survives, "o", color="#0072b2", markersize=4, alpha=0.7)
        panel.set(title=kind)
        panel.grid(alpha=0.3)
    figure.supxlabel("Visual Reliance Score")
    figure.supylabel("share of accuracy that survives")
    figure.suptitle(title)
    return figure


if __name__ == "__main__":
    main()
