"""The authors' release against a built dataset: bytes per mask, rate of the import, rate of reading rows.

The authors' way: images in folders, one ``torch.save`` file per mask, read with ``torch.load``. Aim: at most a sixth of
the bytes per mask.
"""

import io
import json
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from synthetic_release import SyntheticRelease, make_release
from table import interleaved_medians, publish

from fivl_hf.building.run import BuildSettings, build_dataset, builder_class
from fivl_hf.images import open_image
from fivl_hf.masks import decode_mask
from fivl_hf.storage import load_rows

SAMPLES = 3_000
ROWS = 300


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        release = make_release(Path(folder) / "release", SAMPLES, hostile=False)
        rates, built = _imports(release, Path(folder))
        publish("release_import", f"Importing a release of {SAMPLES:,} samples, starting included", rates)
        publish("release_masks", "Bytes of a mask (aim: ratio ≤ 1/6)", _mask_bytes(release, built))
        publish("release_reading", f"Reading {ROWS} rows from disk, image and masks decoded", _reading(release, built))


def _imports(release: SyntheticRelease, folder: Path) -> tuple[list[dict[str, Any]], Path]:
    rows: list[dict[str, Any]] = []
    for workers in (1, 2):
        output = folder / f"built-{workers}"
        builder = builder_class("fivl_instruct")(cache_dir=str(folder / "cache"), data_dir=str(release.folder))
        started = time.perf_counter()
        tally = build_dataset(builder, BuildSettings(output, workers=workers)).tally
        seconds = time.perf_counter() - started
        rows.append({"processes": workers, "samples_per_s": tally.read / seconds, "seconds": seconds})
    for row in rows:
        row["ratio"] = rows[0]["seconds"] / row["seconds"]
    return rows, output


def _mask_bytes(release: SyntheticRelease, built: Path) -> list[dict[str, Any]]:
    with tarfile.open(release.folder / "dataset_grounded.tar") as archive:
        released = np.mean([member.size for member in archive])
    stored = np.mean([len(mask["bytes"]) for row in load_rows(built, "train") for mask in row["masks"]])
    return [
        {"masks": "released 24×24 tensor", "bytes": float(released), "ratio": 1.0},
        {"masks": "built 1-bit PNG, full size", "bytes": float(stored), "ratio": float(stored / released)},
    ]


def _reading(release: SyntheticRelease, built: Path) -> list[dict[str, Any]]:
    with tarfile.open(release.folder / "dataset_grounded.tar") as archive:
        archive.extractall(release.folder, filter="data")
    rows = load_rows(built, "train").select(range(ROWS))
    wanted = set(rows["id"])
    segments = json.loads((release.folder / "fivl_instruct.json").read_text())
    conversations = json.loads((release.folder / "llava_v1_5_mix665k.json").read_text())
    samples = list({item["id"]: item for item in conversations if item["id"] in wanted}.values())

    def ours() -> None:
        for row in rows:
            open_image(row["images"][0])
            for mask in row["masks"]:
                decode_mask(mask)

    def theirs() -> None:
        for sample in samples:
            Image.open(release.folder / sample["image"]).load()
            for turn in segments[sample["id"]]:
                for prompt in turn["prompts"]:
                    path = release.folder / prompt["mask_rel"]
                    if path.is_file():
                        torch.load(io.BytesIO(path.read_bytes()))

    def images_only() -> None:
        for sample in samples:
            Image.open(release.folder / sample["image"]).load()

    seconds = interleaved_medians({"torch.load + image": theirs, "Parquet": ours, "image alone": images_only}, 5)
    baseline = seconds["torch.load + image"]
    return [{"way": way, "rows_per_s": ROWS / each, "ratio": baseline / each} for way, each in seconds.items()]


if __name__ == "__main__":
    main()
