"""The attention probe against eager ``output_attentions``: 8 layers, 16 heads.

Aims: memory above the model at most 1/3 at T = 700 and 1/10 at T = 2,400; time no worse, and at most 1/2. Each
measurement runs in a process of its own, so that the peak is its own.
"""

import json
import resource
import subprocess
import sys
import time
from typing import Any

from table import publish

ROWS, COLUMNS = 4, 576


def measure(how: str, length: int) -> dict[str, float]:
    """Return peak memory above the loaded model (MB) and median seconds of one pass that yields the rows."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    from fivl_hf.explain.probe import record_attention

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=1024, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=16, vocab_size=1000
    )
    model = LlamaModel(config).eval()
    ids = torch.randint(1000, (1, length))
    rows, columns = torch.arange(length - ROWS, length)[None], torch.arange(5, 5 + COLUMNS)[None]

    def eager() -> Any:
        attentions = model(input_ids=ids, output_attentions=True, use_cache=False).attentions
        return torch.stack([a[:, :, rows[0]][..., columns[0]] for a in attentions], dim=1)

    def probe() -> Any:
        with record_attention(model, rows, columns) as recorded:
            model(input_ids=ids, use_cache=False)
        return recorded.stacked()

    if how == "eager":
        model.set_attn_implementation("eager")
    run = {"eager": eager, "probe": probe}[how]
    with torch.inference_mode():
        model(input_ids=ids[:, :8], use_cache=False)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = []
        for _ in range(5):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"megabytes": (peak - before) / 1024, "seconds": sorted(times)[2]}


def main() -> None:
    rows = []
    for length in (700, 2400):
        found = {}
        for how in ("eager", "probe"):
            done = subprocess.run(
                [sys.executable, __file__, how, str(length)], capture_output=True, text=True, check=True
            )
            found[how] = json.loads(done.stdout.splitlines()[-1])
        eager, probe = found["eager"], found["probe"]
        rows.append(
            {
                "T": length,
                "eager_MB": eager["megabytes"],
                "probe_MB": probe["megabytes"],
                "memory_ratio": probe["megabytes"] / eager["megabytes"],
                "eager_s": eager["seconds"],
                "probe_s": probe["seconds"],
                "time_ratio": probe["seconds"] / eager["seconds"],
            }
        )
    title = "Attention rows, 8 layers × 16 heads (aims: memory ≤ 1/3 and ≤ 1/10, time ≤ 1 and ≤ 1/2)"
    publish("probe", title, rows)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
