"""Time per 1,000 scene samples of a whole ``fivl augment`` run, one process against two. Aim: at least 1.7 times."""

import tempfile
import time
from functools import partial
from pathlib import Path

from table import publish

from fivl_hf.augment.inputs.readers import read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.augment.pipeline import RunSettings, run_augmentation
from fivl_hf.augment.tools import ToolSettings
from fivl_hf.jobs.engines import LocalEngine

SAMPLES = 40_000
REPEATS = 2


def main() -> None:
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(REPEATS):
        for workers, times in seconds.items():
            times.append(_run(workers))
    one = min(seconds[1])
    rows = [
        {"processes": workers, "s_per_1000": 1000 * min(times) / SAMPLES, "ratio": one / min(times)}
        for workers, times in seconds.items()
    ]
    publish("augment_scenes", f"{SAMPLES:,} scenes, starting and putting together included (aim: ratio ≥ 1.7)", rows)


def _run(workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        result = run_augmentation(
            partial(read_conversations, InputSettings("scenes", limit=SAMPLES)),
            ToolSettings(grounder="scenes"),
            RunSettings(Path(folder) / "fivl"),
            engine=LocalEngine(workers),
        )
        assert result.tally.kept == SAMPLES
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
