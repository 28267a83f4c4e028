"""Time and bytes until the first streamed row over HTTP, against Parquet as ``datasets`` writes it by default.

Aim: a small part of what the default fetches.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hub_server import HubServer, Repo
from PIL import Image
from table import publish

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.images import image_bytes
from fivl_hf.storage import load_rows, write_dataset

ROWS = 600
REPEATS = 3
_SCRIPT = """
import json, os, sys, time
from datasets import load_dataset
started = time.perf_counter()
row = next(iter(load_dataset(sys.argv[1], split="train", streaming=True)))
print(json.dumps({"id": row["id"], "seconds": time.perf_counter() - started}), flush=True)
os._exit(0)  # Arrow's threads still read ahead, which makes an ordinary end crash
"""

__all__ = ["photographs"]


def main() -> None:
    with tempfile.TemporaryDirectory() as name, HubServer() as hub:
        folder = Path(name)
        write_dataset(folder / "ours", {"train": photographs(ROWS)}, title="S", description="D")
        default = folder / "default" / "data"
        default.mkdir(parents=True)
        load_rows(folder / "ours", "train").to_parquet(str(default / "train.parquet"))
        found = []
        for kind in ("default", "ours"):
            files = {
                path.relative_to(folder / kind).as_posix(): path.read_bytes()
                for path in (folder / kind).rglob("*")
                if path.is_file()
            }
            hub.repos["datasets", f"me/{kind}"] = Repo({"main": files})
            found.append(_first_row(hub, kind, sum(map(len, files.values())), folder))
    for row in found:
        row["ratio"] = found[0]["seconds"] / row["seconds"]
    publish("streaming", f"First streamed row of {ROWS} rows with photographs", found)


def photographs(count: int) -> Iterator[dict[str, Any]]:
    """Yield scene rows whose image is as large as a photograph's file."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (1000, 1000), dtype=np.uint8)
    for number, row in enumerate(scene_rows("train", count)):
        image = Image.fromarray(np.roll(noise, number, axis=0))
        jpeg = image_bytes(image.resize((640, 480)), "JPEG", quality=90)
        masks = [image_bytes(Image.new("1", (640, 480), 1)) for _ in row["masks"]]
        yield {**row, "images": [jpeg], "masks": masks}


def _first_row(hub: HubServer, kind: str, total: int, folder: Path) -> dict[str, Any]:
    seconds, fetched = [], 0
    for number in range(REPEATS):
        hub.served = 0
        env = {**os.environ, **hub.environment(folder / f"home-{kind}-{number}")}
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, f"me/{kind}"], env=env, stdout=subprocess.PIPE, check=True
        )
        seconds.append(json.loads(done.stdout.splitlines()[-1])["seconds"])
        fetched = hub.served
    return {"Parquet": kind, "MB": total / 1e6, "fetched_MB": fetched / 1e6, "seconds": sorted(seconds)[REPEATS // 2]}


if __name__ == "__main__":
    main()
