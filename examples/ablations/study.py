"""What the ablations share: train and measure the small scene model once per setting, then draw a table and a chart.

Each measured setting is kept as a small JSON file in ``results/runs``; an ablation that is started again, or shares
settings with another one, only trains what is missing.
"""

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from matplotlib.figure import Figure
from tqdm.auto import tqdm
from variations import IMAGE_CHANGES, changed, training_rows, untraining_rows

__all__ = ["Setting", "arguments", "measured", "publish"]

RESULTS = Path(__file__).parent / "results"
BATCH = 64


@dataclasses.dataclass(frozen=True)
class Setting:
    """One training: what is varied, and the size that all share."""

    weight: float = 0.1
    mask_error: str = ""
    max_coverage: float = 0.3
    overlap: str = "first"
    rows: int = 10_000
    held_out: bool = False
    seed: int = 0
    steps: int = 600
    test_rows: int = 300

    def path(self, folder: Path) -> Path:
        """Return the file of its result; a field added later leaves the names of earlier results as they are."""
        varied = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        text = json.dumps(varied, sort_keys=True)
        return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def arguments(description: str) -> argparse.Namespace:
    """Return the options that every ablation has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="training runs per setting (default: 3)")
    parser.add_argument("--steps", type=int, default=600, help="steps of 64 rows per training (default: 600)")
    parser.add_argument("--test-rows", type=int, default=300, help="questions per measurement (default: 300)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time (default: all cores)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for table, image and runs")
    return parser.parse_args()


def measured(options: argparse.Namespace, settings: Mapping[str, Setting]) -> dict[str, list[dict[str, Any]]]:
    """Train and measure what is missing; per name, one result per seed."""
    runs = options.output / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    sized = {
        name: [
            dataclasses.replace(setting, seed=seed, steps=options.steps, test_rows=options.test_rows)
            for seed in range(options.seeds)
        ]
        for name, setting in settings.items()
    }
    wanted = dict.fromkeys(setting for group in zip(*sized.values(), strict=True) for setting in group)
    missing = [setting for setting in wanted if not setting.path(runs).exists()]
    if missing:
        os.environ["TQDM_DISABLE"] = "1"  # for the training runs' own bars, in their processes
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.workers, mp_context=spawn, max_tasks_per_child=1) as pool:
            work = [pool.submit(_train_and_measure, setting, runs) for setting in missing]
            for done in tqdm(as_completed(work), total=len(work), desc="Trainings", unit="training"):
                done.result()
    return {
        name: [json.loads(s.path(runs).read_text(encoding="utf-8"))["result"] for s in group]
        for name, group in sized.items()
    }


def _train_and_measure(setting: Setting, runs: Path) -> None:
    import torch

    from fivl_hf.demo.training import train_on_scenes
    from fivl_hf.models import load_model
    from fivl_hf.schema import FEATURES

    torch.set_num_threads(1)
    count = min(setting.rows, BATCH * setting.steps)
    rows = list(training_rows(count, setting.seed, held_out=setting.held_out, mask_error=setting.mask_error))
    with tempfile.TemporaryDirectory() as folder:
        train_on_scenes(
            Dataset.from_list(rows, features=FEATURES),
            Path(folder),
            vision_loss_weight=setting.weight,
            seed=setting.seed,
            steps=setting.steps,
            batch_size=BATCH,
            disable_tqdm=True,
            vision_max_coverage=setting.max_coverage,
            vision_overlap=setting.overlap,
        )
        model, processor = load_model(folder, device="cpu")
    result = _measure(model, processor, setting)
    path = setting.path(runs)
    part = path.with_suffix(".part")
    document = {"setting": dataclasses.asdict(setting), "result": result}
    part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _measure(model: Any, processor: Any, setting: Setting) -> dict[str, Any]:
    """Test scenes are the same for every setting; answers are greedy, right when they match word for word."""
    from fivl_hf.augment.scenes import scene_rows
    from fivl_hf.evaluation.runner import evaluate_reliance
    from fivl_hf.explain.alignment import top_heads
    from fivl_hf.explain.analysis import explain

    def accuracy(rows: list[dict[str, Any]]) -> float:
        return ask(rows)["accuracy"]

    def ask(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return evaluate_reliance(model, processor, rows, batch_size=100, max_new_tokens=16)[0]

    test = list(scene_rows("test", setting.test_rows, seed=1000))
    reliance = ask(test)
    explanation = explain(model, processor, test[:200])
    best = top_heads(explanation.alignment.mean(), 1)
    return {
        "accuracy": reliance["accuracy"],
        "reliance": reliance["visual_reliance_score"],
        "random reliance": reliance["random_reliance_score"],
        "IoU": explanation.segmentation["iou"],
        "best head": best[0]["score"] if best else None,
        "accuracy, unseen pairs": accuracy(untraining_rows(setting.test_rows, seed=1000)),
        **{f"accuracy, {kind}": accuracy(changed(test, kind)) for kind in IMAGE_CHANGES},
    }


def publish(
    options: argparse.Namespace,
    name: str,
    title: str,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    columns: Sequence[str],
    x_label: str,
) -> None:
    """Print mean ± deviation over the seeds as a table, and write ``NAME.md`` and ``NAME.png``."""
    header = [x_label, *columns]
    lines = [header, ["---"] * len(header)]
    lines += [[label, *(_cell(runs, column) for column in columns)] for label, runs in results.items()]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    note = f"{options.seeds} seeds, {options.steps} steps of {BATCH}, {options.test_rows} questions; mean ± deviation."
    print(f"\n{title}\n\n{table}\n\n{note}")
    (options.output / f"{name}.md").write_text(f"# {title}\n\n{table}\n\n{note}\n", encoding="utf-8")
    _chart(title, results, columns, x_label).savefig(options.output / f"{name}.png", dpi=120)


def _values(runs: Sequence[Mapping[str, Any]], column: str) -> list[float]:
    return [np.nan if run[column] is None else run[column] for run in runs]


def _cell(runs: Sequence[Mapping[str, Any]], column: str) -> str:
    values = _values(runs, column)
    return "–" if np.isnan(values).all() else f"{np.nanmean(values):.2f} ± {np.nanstd(values):.2f}"


def _chart(
    title: str, results: Mapping[str, Sequence[Mapping[str, Any]]], columns: Sequence[str], x_label: str
) -> Figure:
    """Return one panel per column: every seed a dot, the mean a bar."""
    figure = Figure(figsize=(1.2 + 2.6 * len(columns), 1.6 + 0.34 * len(results)), layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    places = np.arange(len(results))
    for panel, column in zip(panels, columns, strict=True):
        values = np.array([_values(runs, column) for runs in results.values()], dtype=np.float64)
        means = [np.nanmean(line) if np.isfinite(line).any() else np.nan for line in values]
        panel.barh(places, means, color="#0072b2", alpha=0.35)
        for seed in values.T:
            panel.plot(seed, places, "o", color="#0072b2", markersize=4)
        panel.set(
            title=column, yticks=places, yticklabels=list(results), xlim=(min(0.0, np.nanmin(values, initial=0)), 1)
        )
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_ylabel(x_label)
    panels[0].invert_yaxis()
    figure.suptitle(title)
    return figure
