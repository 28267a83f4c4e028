"""FiVL-Instruct's release at its full size: 665,000 conversations, 1.2 million tensors in a tar of 8 GB.

Each step runs in a process of its own, so that its memory can be measured: indexing, one pass over the plan, a sample
of rows; against reading both JSON files into memory, as the authors' code does. Needs 10 GB of disk where temporary
files go (TMPDIR).

python benchmarks/release_index.py [SAMPLES]
"""

import json
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from memory import Memory
from PIL import Image
from synthetic_release import COLLECTIONS, THINGS, released_tensor
from table import publish

from fivl_hf.building.release import Release, ReleasePolicy, index_release, release_records
from fivl_hf.building.run import BuildSettings, build_dataset, builder_class
from fivl_hf.files.disk_table import index_file

SAMPLES = 665_000
# Of the samples: with an image, with segments; masks of each of these.
WITH_IMAGE, WITH_SEGMENTS, MASKS = 0.94, 0.9, 2
IMAGES, BUILT = 200, 1_000


def main(samples: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        make_release(Path(folder), samples)
        print(f"generated in {time.perf_counter() - started:.0f} s")
        steps = {name: _in_a_process(name, folder) for name in STEPS}
    naive = steps["both JSON files in memory"]
    rows = [
        {"step": name, **figures, "memory_ratio": figures["memory_mb"] / naive["memory_mb"]}
        for name, figures in steps.items()
    ]
    publish("release_index", f"The release with {samples:,} samples (without the memory of worker processes)", rows)


def _in_a_process(step: str, folder: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, step, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def make_release(folder: Path, samples: int) -> None:
    """Write conversations, segments and tensors; a few images are named by all conversations."""
    draw = random.Random(0)
    tensor = released_tensor(np.full((24, 24), 60.0))
    padding = tensor + bytes(-len(tensor) % 512)
    for collection in COLLECTIONS:
        (folder / collection).mkdir(parents=True)
        for number in range(IMAGES):
            Image.new("RGB", (320, 240), (number, 90, 120)).save(folder / collection / f"{number:012d}.jpg")
    with (
        (folder / "llava_v1_5_mix665k.json").open("w") as conversations,
        (folder / "fivl_instruct.json").open("w") as segments,
        (folder / "dataset_grounded.tar").open("wb", buffering=1 << 22) as archive,
    ):
        conversations.write("[")
        segments.write("{")
        for number in range(samples):
            sample, parts = _sample(draw, number)
            conversations.write((",\n" if number else "") + json.dumps(sample))
            if not parts:
                continue
            segments.write((", " if number else "") + f"{json.dumps(sample['id'])}: {json.dumps(parts)}")
            for prompt in (each for part in parts for each in part["prompts"]):
                header = tarfile.TarInfo(prompt["mask_rel"])
                header.size = len(tensor)
                archive.write(header.tobuf())
                archive.write(padding)
        conversations.write("]")
        segments.write("}")
        archive.write(bytes(1024))


def _sample(draw: random.Random, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    collection, id = COLLECTIONS[number % len(COLLECTIONS)], f"{number:012d}"
    things = draw.sample(THINGS, MASKS)
    answers = [f"There is a {thing} in the middle of it, and nothing else that one would notice." for thing in things]
    turns = [(f"What can be seen in this image, part {i}?", answer) for i, answer in enumerate(answers)]
    turns += [("And what may happen next? Explain it in a few sentences.", "Nobody can tell. " * 30)]
    messages = [
        {"from": role, "value": text} for turn in turns for role, text in zip(("human", "gpt"), turn, strict=True)
    ]
    sample: dict[str, Any] = {"id": id, "conversations": messages}
    chance = number % 100 / 100
    if chance < WITH_IMAGE:
        sample["image"] = f"{collection}/{number % IMAGES:012d}.jpg"
    if chance >= WITH_SEGMENTS:
        return sample, []
    parts = []
    for turn, thing in enumerate(things):
        name = f"{collection}/{id}/{id}_{turn:04d}"
        box = [{"xmin": 10, "ymin": 60, "xmax": 200, "ymax": 220}]
        prompt = {"prompt": thing, "mask_img": f"{name}.png", "mask_rel": f"{name}.pt", "bbox": box}
        parts.append({"turn": turn + 1, "prompts": [prompt]})
    return sample, parts


def _release(folder: Path) -> Release:
    return Release(
        folder / "fivl_instruct.json", folder / "dataset_grounded.tar", folder / "llava_v1_5_mix665k.json", (folder,)
    )


def _naive(folder: Path) -> int:
    conversations = json.loads((folder / "llava_v1_5_mix665k.json").read_text())
    segments = json.loads((folder / "fivl_instruct.json").read_text())
    return sum(sample["id"] in segments for sample in conversations)


def _index(folder: Path) -> int:
    return int(index_release(_release(folder), folder / "index.sqlite")["samples"])


def _plan(folder: Path) -> int:
    records: Iterator[Any] = release_records(_release(folder), folder / "index.sqlite", ReleasePolicy())
    return sum(1 for _ in records)


def _rows(folder: Path) -> int:
    """Build a sample of rows with the index that was made before."""
    builder = builder_class("fivl_instruct")(cache_dir=str(folder / "cache"), data_dir=str(folder))
    work = folder / "out.work"
    work.mkdir()
    files = [folder / name for name in ("fivl_instruct.json", "dataset_grounded.tar", "llava_v1_5_mix665k.json")]
    (folder / "index.sqlite").rename(index_file(work, "release", files))
    result = build_dataset(builder, BuildSettings(folder / "out", workers=2, limit=BUILT, seed=0))
    return int(result.tally.kept)


STEPS = {
    "both JSON files in memory": _naive,
    "index, once": _index,
    "one pass over the plan": _plan,
    f"{BUILT:,} rows drawn at random": _rows,
}


def _measure(step: str, folder: Path) -> dict[str, Any]:
    # Memory of the imports, and their peak, does not count.
    memory = Memory("cpu")
    started = time.perf_counter()
    count = STEPS[step](folder)
    return {"seconds": time.perf_counter() - started, "samples": count, "memory_mb": memory.peak()}


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(_measure(sys.argv[1], Path(sys.argv[2]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else SAMPLES)
