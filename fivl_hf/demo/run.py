"""``fivl demo``: free scenes → rows → two training runs from one pretrained start → reliance, heads, ... → one page.

Every stage writes its result last and together with the settings it was made with; running the demo again reuses
what is finished.
"""

import json
import multiprocessing
import os
import queue
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fivl_hf import __version__
from fivl_hf.demo.settings import MODELS, STYLE, DemoSettings
from fivl_hf.files.atomic import write_json
from fivl_hf.files.locks import locked
from fivl_hf.scenes.styles import EDITION

__all__ = ["run_demo"]

_FOLDER_MARK = ".fivl-demo"
_STAGE_MARK = "demo_stage.json"
_MADE_BY = {"version": __version__, "scenes": EDITION}

# The settings that a stage's result depends on.
MadeWith = dict[str, Any]


def run_demo(output: Path, settings: DemoSettings) -> dict[str, Any]:
    """Run or finish the demo in ``output`` and return ``results.json``'s content.

    Raises:
        FileExistsError: ``output`` holds something that is not a demo's.
        FolderInUseError: another demo is running there.
        ChildProcessError: a training process failed.
    """
    _claim(output)
    with locked(output):
        return _run(output, settings)


def _run(output: Path, settings: DemoSettings) -> dict[str, Any]:
    everything = asdict(settings)
    dataset, questions = output / "fivl", output / "questions"
    _stage(dataset, settings.of_dataset(), "dataset", partial(_make_dataset, dataset, settings))
    _stage(questions, settings.of_dataset(), "questions", partial(_make_questions, questions, settings))
    missing = [name for name in MODELS if not _is_done(output / "models" / name, everything)]
    if missing:
        _train_together(output, settings, missing)
    for name in MODELS:
        folder = output / "measurements" / name
        _stage(folder, everything, f"measurements of {name}", partial(_measure, folder, settings))
    results = _results(output, settings)
    write_json(output / "results.json", results)

    from fivl_hf.demo.report import write_report

    write_report(output, settings, results)
    _print_results(results, output)
    return results


def _claim(output: Path) -> None:
    """Mark the folder as a demo's, whose stages may be made again; other people's files are never touched."""
    mark = output / _FOLDER_MARK
    if not mark.exists() and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} exists and is not a demo's folder; choose another --output")
    output.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _stage(folder: Path, made_with: MadeWith, title: str, make: Callable[[], None]) -> None:
    """Make a folder unless it was made with the same settings."""
    if _is_done(folder, made_with):
        print(f"{title}: finished earlier, reused ({folder})")
        return
    _remove(folder)
    started = time.monotonic()
    make()
    _mark_done(folder, made_with, time.monotonic() - started)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _is_done(folder: Path, made_with: MadeWith) -> bool:
    try:
        mark = json.loads((folder / _STAGE_MARK).read_text(encoding="utf-8"))
        return mark["settings"] == {**made_with, **_MADE_BY}
    except (OSError, ValueError, KeyError):
        return False


def _mark_done(folder: Path, made_with: MadeWith, seconds: float) -> None:
    mark = {"settings": {**made_with, **_MADE_BY}, "seconds": seconds}
    (folder / _STAGE_MARK).write_text(json.dumps(mark), encoding="utf-8")


def _seconds(output: Path) -> float:
    """Add up the seconds that all stages took; the training runs ran side by side."""

    def took(folder: Path) -> float:
        return json.loads((folder / _STAGE_MARK).read_text(encoding="utf-8"))["seconds"]

    runs = [took(output / "models" / name) for name in MODELS]
    measurements = [took(output / "measurements" / name) for name in MODELS]
    return took(output / "fivl") + took(output / "questions") + max(runs) + sum(measurements)


def _make_dataset(folder: Path, settings: DemoSettings) -> None:
    from fivl_hf.augment.scenes import scene_rows
    from fivl_hf.jobs.outcomes import Tally
    from fivl_hf.storage import write_dataset

    counts = {
        "train": settings.train_rows,
        "validation": settings.validation_rows,
        "test": settings.test_rows,
    }
    tally = Tally()

    def rows(split: str) -> Iterator[dict[str, Any]]:
        made = scene_rows(split, counts[split], settings.seed, style=STYLE, tally=tally)
        yield from tqdm(made, total=counts[split], desc=f"Scenes, {split}", unit="row")

    write_dataset(
        folder,
        {split: rows(split) for split in counts},
        title="FiVL scenes",
        description="Rendered scenes of coloured shapes with exact masks, made by `fivl demo`.",
    )
    print(f"scenes: {tally.read} read, {tally.kept} kept, {sum(tally.dropped.values())} dropped")


def _make_questions(folder: Path, settings: DemoSettings) -> None:
    """Write one question about each of other test scenes, as many of each kind."""
    from fivl_hf.augment.scenes import scene_questions
    from fivl_hf.storage import write_dataset

    made = scene_questions("test", settings.test_rows, settings.seed + 1, style=STYLE)
    write_dataset(
        folder,
        {"test": tqdm(made, total=settings.test_rows, desc="Questions", unit="row")},
        title="FiVL scenes, questions by kind",
        description="One question about each scene, made by `fivl demo`; those about what is absent have no evidence.",
    )


def _train_together(output: Path, settings: DemoSettings, names: list[str]) -> None:
    """Train the models in a process each, sharing the cores, with a progress bar each."""
    context = multiprocessing.get_context("spawn")
    reports = context.Queue()
    threads = max(1, (os.cpu_count() or 1) // len(names))
    processes = {
        name: context.Process(target=_train_process, args=(output, settings, name, threads, reports), daemon=True)
        for name in names
    }
    bars = {
        name: tqdm(total=settings.steps, desc=f"Training {name} (λ = {MODELS[name]})", unit="step", position=i)
        for i, name in enumerate(names)
    }
    for process in processes.values():
        process.start()
    try:
        while any(process.is_alive() for process in processes.values()):
            if any(process.exitcode for process in processes.values()):
                break
            try:
                name, step = reports.get(timeout=0.5)
            except queue.Empty:
                continue
            bars[name].update(step - bars[name].n)
    finally:
        for process in processes.values():
            process.terminate()
            process.join()
        for bar in bars.values():
            bar.close()
    failed = [name for name in names if not _is_done(output / "models" / name, asdict(settings))]
    if failed:
        raise ChildProcessError(f"training of {', '.join(failed)} failed; its messages are above")


def _train_process(output: Path, settings: DemoSettings, name: str, threads: int, reports: Any) -> None:
    import torch

    from fivl_hf.demo.training import train_on_scenes
    from fivl_hf.storage import load_rows

    # Ctrl-C reaches the whole group; the parent ends the training and says so once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def report(step: int) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            raise SystemExit("the demo was ended")
        reports.put((name, step))

    torch.set_num_threads(threads)
    folder = output / "models" / name
    _remove(folder)
    started = time.monotonic()
    train_on_scenes(
        load_rows(output / "fivl", "train"),
        folder,
        vision_loss_weight=MODELS[name],
        start="pretrained",
        seed=settings.seed,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        on_step=report,
    )
    _mark_done(folder, asdict(settings), time.monotonic() - started)


def _measure(folder: Path, settings: DemoSettings) -> None:
    """Measure reliance, heads, their knock-out, segmentation and linear probes of one model on the test scenes.

    The head of the paper's correlation is chosen on the validation scenes.
    """
    import torch

    from fivl_hf.evaluation.answerers.local import TransformersAnswerer
    from fivl_hf.evaluation.results import write_evaluation
    from fivl_hf.explain.analysis import explain
    from fivl_hf.explain.knockout_runner import write_knockout
    from fivl_hf.explain.linear_probe import probe_patches
    from fivl_hf.explain.runner import write_explanation
    from fivl_hf.models import load_model
    from fivl_hf.storage import load_rows
    from fivl_hf.storage.provenance import provenance

    # So small a model gains nothing from threads, and on a busy machine they wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    output, name = folder.parents[1], folder.name
    dataset, weights = output / "fivl", output / "models" / name
    model, processor = load_model(weights, device="cpu")
    test, validation = load_rows(dataset, "test"), load_rows(dataset, "validation")
    questions = output / "questions"
    write_evaluation(
        lambda: TransformersAnswerer(model, processor, batch_size=100, max_new_tokens=16),
        load_rows(questions, "test"),
        folder,
        model_name=weights,
        dataset=questions,
        split="test",
        seed=settings.seed,
    )
    chosen_on = explain(model, processor, validation, description=f"Choosing {name}'s head")
    about = provenance(weights, test, dataset=dataset, split="test")
    write_explanation(model, processor, test, folder, pictures=0, chosen_on=chosen_on, about=about)
    write_knockout(model, processor, test, folder, max_rows=80, draws=6, batch_size=80, seed=settings.seed, about=about)
    write_json(folder / "probe.json", probe_patches(model, processor, validation, test, batch_size=64))
    torch.set_num_threads(threads)


def _results(output: Path, settings: DemoSettings) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name in MODELS:
        folder = output / "measurements" / name
        reliance = json.loads((folder / "reliance.json").read_text(encoding="utf-8"))
        explanation = json.loads((folder / "explanation.json").read_text(encoding="utf-8"))
        everything = reliance["all_questions"]
        kept = (
            "accuracy",
            "masked_accuracy",
            "random_masked_accuracy",
            "visual_reliance_score",
            "random_reliance_score",
            "confidence_interval",
            "random_confidence_interval",
            "random_overlap",
            "n",
        )
        results[name] = {
            **{key: reliance[key] for key in kept},
            "accuracy_all_questions": everything["accuracy"],
            "accuracy_interval": everything["accuracy_interval"],
            "by_kind": {
                kind: {key: found[key] for key in ("accuracy", "accuracy_interval", "n")}
                for kind, found in everything["by_category"].items()
            },
            "probe": json.loads((folder / "probe.json").read_text(encoding="utf-8")),
            "segmentation_iou": explanation["segmentation"]["iou"],
            "best_head": explanation["best_head"],
            "auroc": explanation["measures"]["auroc"]["held_out"],
            "lens": explanation["lens"],
            "knockout": explanation["knockout"],
        }
    return {**results, "seed": settings.seed, "steps": settings.steps, "seconds": round(_seconds(output), 1)}


def _print_results(results: dict[str, Any], output: Path) -> None:
    def line(title: str, value: Callable[[dict[str, Any]], float | None]) -> str:
        found = (value(results[name]) for name in MODELS)
        return f"{title:34}" + "".join(f"{'undefined' if each is None else f'{each:.2f}':>10}" for each in found)

    print(f"\n{'':34}{'baseline':>10}{'FiVL':>10}")
    print(line("accuracy", lambda model: model["accuracy_all_questions"]))
    print(line("accuracy, questions with evidence", lambda model: model["accuracy"]))
    print(line("the same without the evidence", lambda model: model["masked_accuracy"]))
    print(line("Visual Reliance Score", lambda model: model["visual_reliance_score"]))
    print(line("the same with random boxes", lambda model: model["random_reliance_score"]))
    print(line("segmentation IoU", lambda model: model["segmentation_iou"]))
    print(line("best head's correlation", lambda model: model["best_head"]["score"]))
    print(line("AUROC of heads, held out", lambda model: model["auroc"]["value"]))
    print(line("probe of the vision tower", lambda model: model["probe"]["tower"]["accuracy"]))
    print(line("probe of the language model", lambda model: model["probe"]["language_model"]["accuracy"]))
    print(f"\n{results['seconds']:.0f} s. Open {output / 'report.html'}")
