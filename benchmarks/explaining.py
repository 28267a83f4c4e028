"""The analysis of heads: batches against rows one by one and against eager attention; memory against the rows."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from table import publish

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.explain.analysis import explain
from fivl_hf.explain.runner import write_explanation
from fivl_hf.explain.samples import prepare
from fivl_hf.scenes.model import scene_model, scene_processor
from fivl_hf.storage import load_rows, write_dataset

ROWS, MANY = 200, 2_000
BATCHES = (1, 16, 32, 64)


def main() -> None:
    rows = list(scene_rows("test", ROWS, seed=0))
    publish("explaining", f"Head analysis of {ROWS} rows, the demo's model", _times(rows))
    publish("explaining_memory", "Peak memory of fivl explain", [_memory(count) for count in (ROWS, MANY)])


def _times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    processor = scene_processor()
    model = scene_model(processor, seed=0).eval()
    explain(model, processor, rows[:20])
    loop = _seconds(lambda: _loop(model, processor, rows))
    times = {
        size: min(_seconds(lambda size=size: explain(model, processor, rows, batch_size=size)) for _ in range(3))
        for size in BATCHES
    }
    return [
        {"batch": size, "seconds": found, "row_by_row": times[1] / found, "eager_loop": loop / found}
        for size, found in times.items()
    ]


@torch.inference_mode()
def _loop(model: Any, processor: Any, rows: list[dict[str, Any]]) -> None:
    """The naive loop: eager attention, then Spearman and AUROC head by head, against each own mask alone."""
    model.set_attn_implementation("eager")
    for row in rows:
        sample = prepare(model, processor, row)
        attentions = model(**sample.inputs, output_attentions=True).attentions
        for evidence in sample.evidence:
            inside = evidence.coverage > 0.5
            for layer in attentions:
                for head in layer[0]:
                    seen = head[evidence.tokens - 1][:, sample.image_positions].mean(0).numpy()
                    spearmanr(seen, evidence.coverage)
                    if 0 < inside.sum() < len(inside):
                        roc_auc_score(inside, seen)
    model.set_attn_implementation("sdpa")


def _memory(count: int) -> dict[str, Any]:
    """In a process of its own, so that the peak is its own."""
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "rows", {"test": scene_rows("test", count, seed=0)}, title="S", description="D")
        done = subprocess.run([sys.executable, __file__, folder], capture_output=True, text=True, check=True)
    return {"rows": count, "megabytes": json.loads(done.stdout.splitlines()[-1])}


def _measured(folder: Path) -> float:
    processor = scene_processor()
    write_explanation(scene_model(processor, seed=0), processor, load_rows(folder / "rows", "test"), folder / "out")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    np.seterr(all="ignore")
    if len(sys.argv) == 2:
        print(json.dumps(_measured(Path(sys.argv[1]))))
    else:
        main()
