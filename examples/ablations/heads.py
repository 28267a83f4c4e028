"""Do the heads that look at the evidence matter? They are knocked out, beside random heads of the same layers.

python examples/ablations/heads.py

Heads are chosen by AUROC on one half of the test scenes and knocked out on the other. "Specific" is the drop of the key
expressions' log-probability beyond that of the answers' other words.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from study import TEST_SEED, Setting, arguments, for_each_model
from tables import mean_text, seed_values, write_table
from tasks import COMPARED, PAIR

ROWS = 80
SIZES = (1, 4)  # heads knocked out together
DRAWS = 8  # random sets beside each


def main() -> None:
    options = arguments(__doc__)
    results = for_each_model(options, PAIR, "heads", _knock_out)
    lines, most_out = [], {}
    for label, models in results.items():
        for i, k in enumerate(SIZES):
            effects = [model["aligned"][i] for model in models]
            aligned, random = seed_values(effects, "specific"), seed_values(effects, "random")
            accuracy = seed_values(effects, "accuracy") - seed_values(models, "accuracy")
            by_random = seed_values(effects, "random accuracy") - seed_values(models, "accuracy")
            values = np.stack([aligned, random, aligned - random, accuracy, accuracy - by_random])
            lines.append([f"{label}, {k} out", *map(mean_text, values)])
            most_out[label] = values  # of the last size, in the end
    with_vision, without = (most_out[label] for label in COMPARED["difference"])
    lines.append([f"difference, {SIZES[-1]} out", *map(mean_text, with_vision - without)])
    header = [
        "λ and heads",
        "specific drop, aligned heads",
        "specific drop, random heads",
        "specific drop, aligned − random",
        "change of accuracy, aligned heads",
        "change of accuracy, aligned − random",
    ]
    note = (
        f"{options.seeds} seeds; in brackets 95% t-intervals over them. Drops in nats per token; accuracy is that of "
        "the key expressions under teacher forcing."
    )
    write_table(options.output / "heads", "Do aligned heads matter?", header, lines, note)
    _chart(results).savefig(options.output / "heads.png", dpi=110)


def _knock_out(setting: Setting, model: Any, processor: Any) -> dict[str, Any]:
    from fivl_hf.augment.scenes import scene_rows
    from fivl_hf.explain.knockout_runner import write_knockout

    rows = list(scene_rows("test", 2 * ROWS, TEST_SEED, style=setting.test_style))
    with tempfile.TemporaryDirectory() as work:
        found = write_knockout(
            model, processor, rows, Path(work) / "out", max_rows=ROWS, sizes=SIZES, draws=DRAWS, batch_size=80, about={}
        )
    aligned = [_effect(each) for each in found["sets"]["aligned"]["effects"]]
    return {"accuracy": found["before"]["accuracy"], "aligned": aligned}


def _effect(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "k": found["k"],
        "specific": found["specific"],
        "accuracy": found["accuracy"],
        "random": _mean_of_known(found["random"]["specific"]),
        "random accuracy": _mean_of_known(found["random"]["accuracy"]),
    }


def _mean_of_known(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _chart(curves: dict[str, list[dict[str, Any]]]) -> Figure:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for panel, (title, found) in zip(figure.subplots(1, len(curves), sharey=True), curves.items(), strict=True):
        for name, color in (("specific", "#0072b2"), ("random", "#8a8f98")):
            counts = [each["k"] for each in found[0]["aligned"]]
            values = np.array([[each[name] for each in run["aligned"]] for run in found], dtype=float)
            panel.plot(counts, values.T, color=color, alpha=0.3)
            panel.plot(counts, values.mean(axis=0), color=color, label="aligned" if name == "specific" else "random")
        panel.set(title=title, xlabel="heads knocked out", xticks=SIZES)
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    figure.supylabel("specific drop, nats per token")
    return figure


if __name__ == "__main__":
    main()
