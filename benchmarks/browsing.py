"""Time and memory until the first twelve rows of a dataset can be seen, and until all can be searched.

Against drawing them from the dataset as ``load_rows`` prepares it. Aim: two seconds for 50,000 rows, and no more memory
for ten times as many.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from streaming import photographs
from table import publish

from fivl_hf.storage import write_dataset

SIZES = (600, 6_000)
MANY = 50_000
_SCRIPT = """
import json, os, resource, sys, time
os.environ["HF_DATASETS_CACHE"] = sys.argv[3]
from fivl_hf.show.row_browser import RowBrowser
from fivl_hf.show.row_pages import row_card
from fivl_hf.show.row_views import view_row
from fivl_hf.storage import load_rows
from fivl_hf.storage.parquet_files import ParquetRows, split_files
from memory import Memory
memory, started, found = Memory("cpu"), time.perf_counter(), {}
if sys.argv[2] == "browser":
    browser = RowBrowser(ParquetRows(split_files(sys.argv[1], "train")), "rows")
    browser._indexing = type("Never", (), {"ident": 1, "join": browser._fill})()
    browser.act({})
    found["seconds"] = time.perf_counter() - started
    browser.wait()
    found["all searched"] = time.perf_counter() - started
else:
    rows = load_rows(sys.argv[1], "train")
    [row_card(view_row(rows[number], turns=6, boxes=True)) for number in range(12)]
    found["seconds"] = found["all searched"] = time.perf_counter() - started
print(json.dumps({**found, "MB": memory.peak()}))
"""


def main() -> None:
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in SIZES:
            write_dataset(folder / str(size), {"train": photographs(size)}, title="S", description="D")
        scenes = _many(folder / "scenes")
        for kind, rows, place in [
            *(("photographs", size, folder / str(size)) for size in SIZES),
            ("scenes", MANY, scenes),
        ]:
            for way in ("datasets", "browser"):
                cache = folder / f"cache-{way}-{rows}"
                found.append({"images": kind, "rows": rows, "way": way, **_first_rows(place, way, cache)})
    for before, after in zip(found[::2], found[1::2], strict=True):
        before["ratio"], after["ratio"] = 1.0, before["seconds"] / after["seconds"]
    publish("browsing", "Until the first twelve rows are drawn; until all rows and masks are indexed", found)


def _many(folder: Path) -> Path:
    """Write 50,000 rows of 2,000 different scenes."""
    from fivl_hf.augment.scenes import scene_rows

    base = list(scene_rows("train", 2_000))
    rows = ({**base[number % len(base)], "id": f"s{number}"} for number in range(MANY))
    write_dataset(folder, {"train": rows}, title="S", description="D")
    return folder


def _first_rows(folder: Path, way: str, cache: Path) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(folder), way, str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
