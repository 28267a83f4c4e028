"""The demo's page: one self-contained HTML file, pictures first."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from fivl_hf.demo.settings import MODELS, DemoSettings
from fivl_hf.evaluation.questions import questions
from fivl_hf.evaluation.table import ORIGINAL, RANDOM, REMOVED, by_question, read_answers
from fivl_hf.explain.pictures import attention_picture, segments_picture
from fivl_hf.explain.report import knockout_figure
from fivl_hf.explain.samples import Sample, prepare
from fivl_hf.images import black_out
from fivl_hf.models import load_model
from fivl_hf.show.drawing import PALETTE, enlarge, frame_boxes, outline_masks
from fivl_hf.show.pages import figure_url, picture_url, render_page
from fivl_hf.show.plots import depth_curves, head_map
from fivl_hf.show.row_views import Part
from fivl_hf.storage import load_rows

__all__ = ["write_report"]

_COLORS = {"baseline": "#8a8f98", "fivl": "#0072b2"}
_LABELS = {name: f"{title} (λ = {MODELS[name]:g})" for name, title in (("baseline", "Baseline"), ("fivl", "FiVL"))}
_VIEWS = {ORIGINAL: "original image", RANDOM: "random boxes blacked out", REMOVED: "evidence blacked out"}
_SHOWN = 6


def write_report(output: Path, settings: DemoSettings, results: dict[str, Any]) -> None:
    """Write ``report.html`` from what the demo's stages left in ``output``."""
    measured = {name: _measured(output, name) for name in MODELS}
    test = load_rows(output / "fivl", "test").select(range(min(60, settings.test_rows)))
    asked = load_rows(output / "questions", "test").select(range(min(60, settings.test_rows)))
    html = render_page(
        "report.html.jinja",
        results=results,
        settings=settings,
        labels=_LABELS,
        names=list(MODELS),
        views=_VIEWS,
        weights=MODELS,
        curves={title: figure_url(figure) for title, figure in _curves(output).items()},
        bars=figure_url(_accuracy_bars(results)),
        kinds=figure_url(_kind_bars(results)),
        heads=np.size(measured["fivl"]["explanation"]["alignment"]),
        maps={name: figure_url(_map(measured, name)) for name in MODELS},
        knockouts={name: figure_url(knockout_figure(results[name]["knockout"])) for name in MODELS},
        depths={name: figure_url(depth_curves(results[name]["lens"]["rank"])) for name in MODELS},
        answers=_answer_cards(asked, measured),
        segments=_segment_cards(output, test, results),
    )
    (output / "report.html").write_text(html, encoding="utf-8")


def _measured(output: Path, name: str) -> dict[str, Any]:
    folder = output / "measurements" / name
    explanation = json.loads((folder / "explanation.json").read_text(encoding="utf-8"))
    return {"explanation": explanation, "answers": by_question(read_answers(folder / "answers.jsonl"))}


def _accuracy_bars(results: dict[str, Any]) -> Figure:
    """Return accuracy under each condition, a group per model."""
    figure = Figure(figsize=(4.4, 3.0), layout="constrained")
    axes = figure.subplots()
    groups = ("accuracy", "random_masked_accuracy", "masked_accuracy")
    for i, name in enumerate(MODELS):
        heights = [results[name][key] for key in groups]
        bars = axes.bar(np.arange(3) + (i - 0.5) * 0.38, heights, 0.36, color=_COLORS[name], label=_LABELS[name])
        axes.bar_label(bars, fmt="%.2f", fontsize=9)
    axes.set_xticks(range(3), ["original\nimage", "random boxes\nblacked out", "evidence\nblacked out"])
    _finish(axes)
    return figure


def _kind_bars(results: dict[str, Any]) -> Figure:
    """Return accuracy on each kind of question with its 95% interval, a group per model."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.subplots()
    kinds = list(results[next(iter(MODELS))]["by_kind"])
    for i, name in enumerate(MODELS):
        found = [results[name]["by_kind"][kind] for kind in kinds]
        heights = np.array([each["accuracy"] for each in found], dtype=float)
        low, high = np.array([each["accuracy_interval"] for each in found], dtype=float).T
        places = np.arange(len(kinds)) + (i - 0.5) * 0.38
        errors = np.nan_to_num([heights - low, high - heights]).clip(0)
        axes.bar(places, heights, 0.36, yerr=errors, color=_COLORS[name], label=_LABELS[name], ecolor="#444")
    axes.set_xticks(range(len(kinds)), kinds)
    _finish(axes)
    return figure


def _finish(axes: Any) -> None:
    """Leave room for the legend above the bars."""
    axes.set(ylim=(0, 1.25), yticks=np.linspace(0, 1, 6), ylabel="accuracy")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper center")


def _curves(output: Path) -> dict[str, Figure]:
    """Language loss, answer-token and patch accuracy over the training steps."""
    logs = {}
    for name in MODELS:
        log = json.loads((output / "models" / name / "log.json").read_text(encoding="utf-8"))
        logs[name] = [entry for entry in log if "loss" in entry]
    shown = {
        "language_loss": "language loss",
        "mean_token_accuracy": "answer tokens right",
        "vision_token_accuracy": "patches right",
    }
    figures = {}
    for key, title in shown.items():
        figure = Figure(figsize=(4.0, 2.6), layout="constrained")
        axes = figure.subplots()
        for name, log in logs.items():
            if any(key in entry for entry in log):
                steps, values = zip(*((entry["step"], entry[key]) for entry in log if key in entry), strict=True)
                axes.plot(steps, values, color=_COLORS[name], label=_LABELS[name])
        axes.set(title=title, xlabel="step")
        axes.set(yscale="log") if key == "language_loss" else axes.set(ylim=(-0.02, 1.02))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        figures[title] = figure
    return figures


def _map(measured: dict[str, Any], name: str) -> Figure:
    explanation = measured[name]["explanation"]
    best = explanation["best_head"]
    scores = np.array(explanation["alignment"], dtype=float)
    return head_map(scores, f"{_LABELS[name]}, test scenes", framed=(best["layer"], best["head"]))


def _answer_cards(test: Any, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the first test questions with evidence, as they come: three pictures, each model's three answers."""
    cards = []
    for question in islice((each for each in questions(test) if each.has_evidence), _SHOWN):
        image, boxes = question.images()[0], question.evidence[0]
        elsewhere = next(iter(measured.values()))["answers"][question.id][RANDOM].boxes[0]
        views = {
            ORIGINAL: frame_boxes(image, boxes),
            RANDOM: enlarge(black_out(image, elsewhere), 288),
            REMOVED: enlarge(black_out(image, boxes), 288),
        }
        answers = {
            name: {
                condition: {"text": answer.answer, "right": answer.score == 1}
                for condition, answer in measured[name]["answers"][question.id].items()
            }
            for name in MODELS
        }
        pictures = {view: picture_url(image) for view, image in views.items()}
        cards.append(
            {
                "question": question.messages[-1]["content"],
                "reference": question.answers[0],
                "pictures": pictures,
                "answers": answers,
            }
        )
    return cards


def _segment_cards(output: Path, test: Any, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the first test scenes: masks, and what each model's best head and image positions show."""
    models = {name: load_model(output / "models" / name, device="cpu") for name in MODELS}
    cards = []
    for raw in test.select(range(min(4, len(test)))):
        samples = {name: prepare(*models[name], raw) for name in MODELS}
        sample = next(iter(samples.values()))
        first = sample.evidence[0]
        cards.append(
            {
                "text": first.expression.text,
                "scene": picture_url(enlarge(sample.images[0], 288)),
                "mask": picture_url(outline_masks(sample.images[0], [first.mask])),
                "keywords": [
                    Part(e.expression.text, PALETTE[i % len(PALETTE)]) for i, e in enumerate(_different(sample))
                ],
                "models": {
                    name: {
                        "attention": picture_url(
                            _attention(models[name][0], samples[name], results[name]["best_head"])
                        ),
                        "segments": picture_url(
                            segments_picture(models[name][0], samples[name], _different(samples[name]))
                        ),
                    }
                    for name in MODELS
                },
            }
        )
    return cards


def _attention(model: Any, sample: Sample, best: dict[str, Any]) -> Image.Image:
    return attention_picture(model, sample, sample.evidence[0].tokens, best["layer"], best["head"])


def _different(sample: Sample) -> list[Any]:
    """Return one piece of evidence per expression text."""
    return list({evidence.expression.text: evidence for evidence in sample.evidence}.values())
