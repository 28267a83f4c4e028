"""Measures of all heads at once against SciPy and scikit-learn head by head: 1,024 heads × 576 tokens.

Aim: AUROC at least 20 times as fast on one thread, over 100 expressions. The loops take minutes for those: they are
timed on one expression, ours on 100.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score
from table import interleaved_medians, publish

from fivl_hf.explain.measures import MEASURES, measured

EXPRESSIONS = 100
LOOPS: dict[str, Callable[[Any, Any], float]] = {
    "spearman": lambda row, mask: float(spearmanr(row, mask).statistic),
    "auroc": lambda row, mask: float(roc_auc_score(mask, row)),
    "average_precision": lambda row, mask: float(average_precision_score(mask, row)),
}


def main() -> None:
    rng = np.random.default_rng(0)
    attention = rng.random((1024, 576), dtype=np.float32)
    masks = rng.random((EXPRESSIONS, 576)) < 0.2
    rows = []
    for threads in (1, torch.get_num_threads()):
        torch.set_num_threads(threads)
        for name, loop in LOOPS.items():
            variants: dict[str, Any] = {
                "loop": lambda loop=loop: [loop(head, masks[0]) for head in attention],
                "ours": lambda name=name: [measured(attention, mask, [name]) for mask in masks],
            }
            times = interleaved_medians(variants, repeats=3)
            rows.append(_line(name, threads, EXPRESSIONS * times["loop"], times["ours"]))
        every = interleaved_medians(
            {"ours": lambda: [measured(attention, mask, list(MEASURES)) for mask in masks]}, repeats=3
        )
        rows.append(_line("all six", threads, None, every["ours"]))
    publish("measures", f"1,024 heads × 576 tokens × {EXPRESSIONS} expressions (aim for AUROC on one thread: 20)", rows)


def _line(name: str, threads: int, loop: float | None, ours: float) -> dict[str, Any]:
    return {"measure": name, "threads": threads, "loop_s": loop, "ours_s": ours, "ratio": loop and loop / ours}


if __name__ == "__main__":
    main()
