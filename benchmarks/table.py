"""What every benchmark shares: repeatable timing, a printed table, a JSON file in ``results/``."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["interleaved_medians", "publish"]

RESULTS = Path(__file__).parent / "results"


def interleaved_medians(variants: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return median seconds of one call of each variant.

    The variants take turns, so that a busy machine slows all alike; a short one is called until 20 ms have passed.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    calls = {}
    for name, variant in variants.items():
        variant()
        started = time.perf_counter()
        variant()
        calls[name] = max(1, round(0.02 / (time.perf_counter() - started)))
    for _ in range(repeats):
        for name, variant in variants.items():
            started = time.perf_counter()
            for _ in range(calls[name]):
                variant()
            times[name].append((time.perf_counter() - started) / calls[name])
    return {name: statistics.median(values) for name, values in times.items()}


def publish(name: str, title: str, rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table and write them, with the machine they ran on."""
    import torch

    columns = list(rows[0])
    shown = [[f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    widths = [max(len(c), *(len(line[i]) for line in shown)) for i, c in enumerate(columns)]
    print(f"\n{title}")
    for line in [columns, *shown]:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    RESULTS.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "processor": platform.machine(), "torch": torch.__version__}
    document = {"title": title, "machine": machine, "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
