"""Training and measuring of a small scene model, once per setting and seed, for all ablations.

Each measured setting is kept as a small JSON file in ``results/runs``; an ablation that is started again, or shares
settings with another one, only trains what is missing.
"""

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from changes import training_rows, with_mask_errors
from datasets import Dataset
from pyarrow.parquet import read_table
from tqdm.auto import tqdm

from fivl_hf.demo.training import Start
from fivl_hf.files.atomic import write_json
from fivl_hf.scenes.catalog import ALIGNED
from fivl_hf.scenes.model import PRETRAINED
from fivl_hf.scenes.questions import QUESTION_KINDS
from fivl_hf.scenes.styles import EDITION
from fivl_hf.schema import FEATURES
from fivl_hf.storage.reading import with_encoded_images

__all__ = ["BATCH", "RESULTS", "TEST_SEED", "Setting", "arguments", "for_each_model", "measured", "subset_size"]

RESULTS = Path(__file__).parent / "results"
MODELS = Path(__file__).parents[2] / ".cache" / "ablations"
BATCH = 64
TEST_SEED = 1000  # of free scenes; no training takes them


@dataclasses.dataclass(frozen=True)
class Setting:
    """One training: what is varied, and the size that all share.

    Attributes:
        weight: λ.
        schedule: of λ.
        mask_error, rate: a name of ``changes.MASK_ERRORS``, and the share of masks that are to have it.
        start: see :func:`fivl_hf.demo.training.starting_model`.
        style: of the scenes, several joined by "+".
        test_rows: questions per measurement.
    """

    weight: float = 0.1
    mask_error: str = ""
    rate: float = 1.0
    max_coverage: float = 0.3
    overlap: str = "first"
    schedule: str = "constant"
    start: Start = "aligned"
    style: str = ALIGNED
    rows: int = 10_000
    seed: int = 0
    steps: int = 600
    test_rows: int = 300

    @property
    def test_style(self) -> str:
        """The style of the free scenes that its model is tested on."""
        return "grid" if self.style == "grid" else "free"

    def name(self) -> str:
        """Return the name of its files, which depends on the edition of free scenes and on the pretrained weights, too.

        A field added later leaves the names of earlier results as they are.
        """
        varied = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        if self.style != ALIGNED:
            varied["edition"] = EDITION
        if self.start == "pretrained":
            varied["start"] = _pretrained_digest()
        text = json.dumps(varied, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _pretrained_digest() -> str:
    return hashlib.sha256(PRETRAINED.read_bytes()).hexdigest()


def arguments(description: str, *, seeds: int = 5, steps: int = 300, test_rows: int = 350) -> argparse.Namespace:
    """Return the options that every ablation has, with its defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=seeds, help=f"training runs per setting (default: {seeds})")
    parser.add_argument("--steps", type=int, default=steps, help=f"steps of 64 rows per training (default: {steps})")
    parser.add_argument(
        "--test-rows", type=int, default=test_rows, help=f"questions per measurement (default: {test_rows})"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time (default: all cores)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for table, image and runs")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder that keeps the trained models")
    return parser.parse_args()


def subset_size(count: int) -> int:
    """Return the number of questions, captions or rows of the figures that do not take ``count`` of them."""
    return max(len(QUESTION_KINDS), 2 * count // 5)


def measured(options: argparse.Namespace, settings: Mapping[str, Setting]) -> dict[str, list[dict[str, Any]]]:
    """Train and measure what is missing; per name, one result per seed."""
    runs = for_each_model(options, settings, "runs", _measured)
    return {name: [run["result"] for run in of_name] for name, of_name in runs.items()}


def for_each_model(
    options: argparse.Namespace,
    settings: Mapping[str, Setting],
    folder: str,
    work: Callable[[Setting, Any, Any], dict[str, Any]],
) -> dict[str, list[dict[str, Any]]]:
    """Return, per name, one result per seed; those that are not in ``folder`` yet are worked out by several processes.

    Args:
        folder: in the output folder; delete it after a change of ``work``.
        work: works a result out from setting, model and processor; at module level, since other processes run it.
    """
    kept = options.output / folder
    kept.mkdir(parents=True, exist_ok=True)
    groups = {name: _sized(options, setting) for name, setting in settings.items()}
    wanted = dict.fromkeys(setting for group in zip(*groups.values(), strict=True) for setting in group)
    missing = [setting for setting in wanted if not _result_file(kept, setting).exists()]
    if missing:
        os.environ["TQDM_DISABLE"] = "1"  # for the training runs' own bars, in their processes
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.workers, mp_context=spawn) as pool:
            jobs = [
                pool.submit(_work_and_keep, work, setting, options.models, _result_file(kept, setting))
                for setting in missing
            ]
            for done in tqdm(as_completed(jobs), total=len(jobs), desc="Models", unit="model", disable=False):
                done.result()
    return {
        name: [json.loads(_result_file(kept, setting).read_text(encoding="utf-8")) for setting in group]
        for name, group in groups.items()
    }


def _sized(options: argparse.Namespace, setting: Setting) -> list[Setting]:
    """Return a setting with the options' sizes, once per seed."""
    sizes = {"steps": options.steps, "test_rows": options.test_rows}
    return [dataclasses.replace(setting, seed=seed, **sizes) for seed in range(options.seeds)]


def _result_file(folder: Path, setting: Setting) -> Path:
    return folder / f"{setting.name()}.json"


def _work_and_keep(work: Callable[..., dict[str, Any]], setting: Setting, models: Path, path: Path) -> None:
    import torch

    from fivl_hf.models import load_model

    torch.set_num_threads(1)
    model, processor = load_model(_trained(setting, models), device="cpu")
    write_json(path, work(setting, model, processor))


def _measured(setting: Setting, model: Any, processor: Any) -> dict[str, Any]:
    if setting.style == ALIGNED:
        result = _measure(model, processor, setting)
    else:
        from measuring import measure

        result = measure(model, processor, setting.test_style, setting.test_rows)
    return {"setting": dataclasses.asdict(setting), "result": result}


def _trained(setting: Setting, models: Path) -> Path:
    """Return the folder of a setting's model, trained if it is missing; ``log.json`` is written last."""
    folder = models / setting.name()
    if not (folder / "log.json").exists():
        _train(setting, folder)
    return folder


def _train(setting: Setting, folder: Path) -> None:
    from fivl_hf.demo.training import train_on_scenes

    train_on_scenes(
        _training_set(setting, folder.parent / "rows"),
        folder,
        vision_loss_weight=setting.weight,
        start=setting.start,
        seed=setting.seed,
        steps=setting.steps,
        batch_size=BATCH,
        disable_tqdm=True,
        vision_max_coverage=setting.max_coverage,
        vision_overlap=setting.overlap,
        vision_loss_schedule=setting.schedule,
    )


def _training_set(setting: Setting, folder: Path) -> Dataset:
    """Return a setting's rows; those without errors are made once for all settings that share them."""
    count = min(setting.rows, BATCH * setting.steps)
    path = folder / f"{setting.style}-{EDITION}-{count}-{setting.seed}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        rows = list(training_rows(setting.style.split("+"), count, setting.seed))
        Dataset.from_list(rows, features=FEATURES).to_parquet(part)
        part.replace(path)
    rows = with_encoded_images(Dataset(read_table(path)))
    if not setting.mask_error:
        return rows
    rng = np.random.default_rng(setting.seed)
    wrong = [with_mask_errors(row, setting.mask_error, setting.rate, rng) for row in rows]
    return Dataset.from_list(wrong, features=FEATURES)


def _measure(model: Any, processor: Any, setting: Setting) -> dict[str, Any]:
    """Measure a model of patch-aligned scenes; answers are greedy, right when they match word for word."""
    from fivl_hf.augment.scenes import scene_rows
    from fivl_hf.evaluation.runner import evaluate_reliance
    from fivl_hf.explain.alignment import top_heads
    from fivl_hf.explain.analysis import explain

    test = list(scene_rows("test", setting.test_rows, seed=1000))
    reliance = evaluate_reliance(model, processor, test, batch_size=100, max_new_tokens=16)[0]
    explanation = explain(model, processor, test[:200])
    best = top_heads(explanation.alignment.mean(), 1)
    return {
        "accuracy": reliance["accuracy"],
        "reliance": reliance["visual_reliance_score"],
        "random reliance": reliance["random_reliance_score"],
        "IoU": explanation.segmentation["iou"],
        "best head": best[0]["score"] if best else None,
    }
