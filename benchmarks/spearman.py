"""Spearman of all heads at once against SciPy head by head. Aim: at least 5 times at 1,024 heads × 576 tokens."""

import numpy as np
import torch
from scipy.stats import spearmanr
from table import interleaved_medians, publish

from fivl_hf.explain.alignment import spearman


def main() -> None:
    rng = np.random.default_rng(0)
    attention = rng.random((1024, 576), dtype=np.float32)
    coverage = np.maximum(rng.random(576) - 0.7, 0)
    rows = []
    for threads in (1, torch.get_num_threads()):
        torch.set_num_threads(threads)
        times = interleaved_medians(
            {
                "scipy": lambda: np.array([spearmanr(head, coverage).statistic for head in attention]),
                "ours": lambda: spearman(attention, coverage),
            },
            repeats=5,
        )
        rows.append(
            {
                "threads": threads,
                "scipy_ms": 1e3 * times["scipy"],
                "ours_ms": 1e3 * times["ours"],
                "ratio": times["scipy"] / times["ours"],
            }
        )
    publish("spearman", "Spearman, 1,024 heads × 576 tokens (aim: ratio ≥ 5)", rows)


if __name__ == "__main__":
    main()
