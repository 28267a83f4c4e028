"""Small source files for every dataset builder, in the formats that their makers publish."""

import io
import json
import sqlite3
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from synthetic_release import make_release

from fivl_hf.building.archive import ArchiveReader, index_archive

SIZE = (96, 64)
DOG = [10, 20, 30, 24]  # x, y, width, height in every image of the benchmarks


def instruct(folder: Path) -> dict[str, Any]:
    make_release(folder, 30, hostile=False)
    return {"data_dir": str(folder)}


def pope(folder: Path) -> dict[str, Any]:
    images(folder / "val2014", [coco_name(i) for i in range(3)])
    for split in ("adversarial", "popular", "random"):
        # Every other question is about something that is not there.
        lines = [
            {
                "question_id": number + 1,
                "image": coco_name(number % 3),
                "text": f"Is there a {('dog', 'snowboard')[number % 2]} in the image?",
                "label": ("yes", "no")[number % 2],
            }
            for number in range(6)
        ]
        path = folder / f"coco_pope_{split}.json"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    instances(folder / "instances_val2014.json")
    return {"data_dir": str(folder)}


def vqav2(folder: Path) -> dict[str, Any]:
    images(folder / "val2014", [coco_name(i) for i in range(3)])
    info = {"info": {"version": "2.0"}, "data_subtype": "val2014"}
    asked = [
        {"question_id": 10 + i, "image_id": i % 3, "question": ("What color is the dog?", "Is it late?")[i % 2]}
        for i in range(6)
    ]
    given = [
        {
            "question_id": 10 + i,
            "image_id": i % 3,
            "answer_type": "other",
            "multiple_choice_answer": "brown",
            "answers": [{"answer": answer, "answer_id": n} for n, answer in enumerate(["tan"] * 3 + ["brown"] * 7)],
        }
        for i in range(6)
    ]
    questions = {**info, "task_type": "Open-Ended", "questions": asked}
    (folder / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps(questions))
    (folder / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({**info, "annotations": given}))
    instances(folder / "instances_val2014.json")
    return {"data_dir": str(folder)}


def gqa(folder: Path) -> dict[str, Any]:
    images(folder / "images", [f"{i}.jpg" for i in range(3)])
    questions = {
        f"0{i}": {
            "question": ("What is in front of the wall?", "Is it sunny?")[i % 2],
            "imageId": str(i % 3),
            "answer": ("dog", "no")[i % 2],
            "types": {"structural": ("query", "verify")[i % 2]},
        }
        for i in range(6)
    }
    (folder / "val_balanced_questions.json").write_text(json.dumps(questions))
    x, y, width, height = DOG
    graph = {"objects": {"1": {"name": "dog", "x": x, "y": y, "w": width, "h": height, "attributes": []}}}
    graphs = {str(i): {"width": SIZE[0], "height": SIZE[1], **graph} for i in range(3)}
    (folder / "val_sceneGraphs.json").write_text(json.dumps(graphs))
    return {"data_dir": str(folder)}


def scenes(folder: Path) -> dict[str, Any]:
    return {"seed": 7, "train_rows": 6, "validation_rows": 2, "test_rows": 2}


SOURCES = {
    "fivl_gqa": gqa,
    "fivl_instruct": instruct,
    "fivl_pope": pope,
    "fivl_scenes": scenes,
    "fivl_vqav2": vqav2,
}


def coco_name(number: int) -> str:
    return f"COCO_val2014_{number:012d}.jpg"


def images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", SIZE, (40 * number, 90, 120)).save(folder / name)


def instances(path: Path) -> None:
    """A dog as a box-shaped polygon in every image."""
    x, y, width, height = DOG
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    content = {
        "images": [{"id": i, "file_name": coco_name(i), "width": SIZE[0], "height": SIZE[1]} for i in range(3)],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 18, "bbox": DOG, "segmentation": [corners]} for i in range(3)
        ],
    }
    path.write_text(json.dumps(content))


def write_tar(path: Path, members: list[tuple[str, bytes]], kind: int = tarfile.GNU_FORMAT) -> None:
    with tarfile.open(path, "w", format=kind) as archive:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))


def indexed_tar(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> tuple[ArchiveReader, Counter[str]]:
    """A reader of a tar archive, and what its index refused."""
    index = path.with_suffix(".sqlite")
    index.unlink(missing_ok=True)
    with sqlite3.connect(index) as table:
        refused = index_archive(path, table, wanted=wanted)
    return ArchiveReader(path, index), refused
