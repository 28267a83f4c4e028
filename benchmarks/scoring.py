"""Scoring without a model: intervals by resampling kinds of pictures against drawing numbers, and a file of answers.

A million questions' numbers, drawn 10,000 times, would take 80 GB: the two ways are compared at 10,000 questions.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from memory import Memory
from table import interleaved_medians, publish

from fivl_hf.evaluation.results import score_again
from fivl_hf.evaluation.statistics import paired_bootstrap
from fivl_hf.evaluation.table import Answer

RESAMPLES = 10_000


def main() -> None:
    rows = []
    for questions, per_picture in ((10_000, 1), (10_000, 6)):
        scores, masked, pictures = answers(questions, per_picture)
        variants: dict[str, Any] = {
            "kinds": lambda s=scores, m=masked, g=pictures: paired_bootstrap(s, m, list(g), resamples=RESAMPLES),
            "numbers": lambda s=scores, m=masked: numbers_drawn(s, m),
        }
        seconds = interleaved_medians(variants, 3)
        rows.append(_line(questions, per_picture, seconds["kinds"], seconds["numbers"], None))
    scores, masked, pictures = answers(1_000_000, 6)
    memory, started = Memory("cpu"), time.perf_counter()
    paired_bootstrap(scores, masked, list(pictures), resamples=RESAMPLES)
    rows.append(_line(1_000_000, 6, time.perf_counter() - started, None, memory.peak()))
    publish("scoring", f"An interval of VRS from {RESAMPLES:,} resamples", rows)
    publish("scoring_file", f"fivl score: a file of answers, {RESAMPLES:,} resamples", [scored_file(1_000_000)])


def scored_file(count: int) -> dict[str, Any]:
    """Score a file of answers to a third as many questions under three conditions, six questions a picture."""
    with TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        with (folder / "answers.jsonl").open("w") as file:
            for question in range(count // 3):
                for condition, rate in (("original", 0.7), ("removed", 0.4), ("random", 0.65)):
                    said = "yes" if rng.random() < rate else "no"
                    id, picture = str(question), str(question // 6)
                    answer = Answer(id, condition, "Is it?", ("yes",), said, 0.0, category="a", picture=picture)
                    file.write(json.dumps(asdict(answer)) + "\n")
        size = (folder / "answers.jsonl").stat().st_size
        memory, started = Memory("cpu"), time.perf_counter()
        score_again(folder, scorer_name="exact", resamples=RESAMPLES)
        seconds = time.perf_counter() - started
        read = time.perf_counter()
        with (folder / "answers.jsonl").open() as file:
            sum(len(json.loads(line)) for line in file)
        parsing = time.perf_counter() - read
    return {
        "answers": count // 3 * 3,
        "file_mb": size / 1e6,
        "seconds": seconds,
        "parsing_json_s": parsing,
        "ratio": seconds / parsing,
        "memory_mb": memory.peak(),
    }


def _line(questions: int, per_picture: int, ours: float, numbers: float | None, memory: float | None) -> dict[str, Any]:
    return {
        "questions": questions,
        "per_picture": per_picture,
        "seconds": ours,
        "drawing_numbers_s": numbers,
        "ratio": numbers / ours if numbers else None,
        "memory_mb": memory,
    }


def answers(questions: int, per_picture: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, scores without the evidence, and the picture of each question."""
    rng = np.random.default_rng(0)
    scores = (rng.random(questions) < 0.7).astype(float)
    return scores, scores * (rng.random(questions) < 0.5), np.arange(questions) // per_picture


def numbers_drawn(scores: np.ndarray, masked: np.ndarray) -> Any:
    """Return the interval as it is often computed: every resample draws a number for each question."""
    rng, values = np.random.default_rng(0), np.empty(RESAMPLES)
    step = 400  # of the resamples, so that the numbers take 32 MB
    for start in range(0, RESAMPLES, step):
        chosen = rng.integers(0, len(scores), size=(step, len(scores)))
        values[start : start + step] = 1 - masked[chosen].sum(axis=1) / scores[chosen].sum(axis=1)
    return np.quantile(values, (0.025, 0.975))


if __name__ == "__main__":
    main()
