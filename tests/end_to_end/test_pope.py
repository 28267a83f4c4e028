"""Files of POPE's published size and format: for each split 500 images with three objects there and three not."""

import json
import random
from collections import Counter

import pytest
from builder_sources import coco_name, images

from fivl_hf.storage import load_rows

IMAGES, SIZE = 500, (96, 64)
COCO_80 = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
CATEGORIES = sorted(COCO_80.split(","))
SPLITS = ("adversarial", "popular", "random")


def article(name):
    return "an" if name[0] in "aeiou" else "a"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Question files as POPE has them, and COCO's instances; returns the folder and what is on each image."""
    folder = tmp_path_factory.mktemp("pope")
    draw = random.Random(0)
    there = [draw.sample(CATEGORIES, 5) for _ in range(IMAGES)]
    images(folder / "val2014", [coco_name(i) for i in range(IMAGES)])
    annotations = [
        {"image_id": i, "category_id": CATEGORIES.index(name), "bbox": [5 + 15 * k, 10, 12, 20]}
        for i, names in enumerate(there)
        for k, name in enumerate(names)
    ]
    coco = {
        "images": [{"id": i, "file_name": coco_name(i), "width": 96, "height": 64} for i in range(IMAGES)],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(CATEGORIES)],
    }
    (folder / "instances_val2014.json").write_text(json.dumps(coco))
    for split in SPLITS:
        lines = []
        for i, names in enumerate(there):
            absent = draw.sample([name for name in CATEGORIES if name not in names], 3)
            # There and not there by turns, as in the published files.
            pairs = zip(names[:3], absent, strict=True)
            for name, label in [pair for both in pairs for pair in zip(both, ("yes", "no"), strict=True)]:
                text = f"Is there {article(name)} {name} in the image?"
                lines.append({"question_id": len(lines) + 1, "image": coco_name(i), "text": text, "label": label})
        (folder / f"coco_pope_{split}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder, there


def test_three_thousand_questions_are_built(published, build, tmp_path):
    folder, there = published
    result = build("fivl_pope", tmp_path / "out", data_dir=str(folder), splits=("adversarial",))
    assert (result.tally.read, result.tally.kept) == (3_000, 3_000)
    rows = load_rows(tmp_path / "out", "adversarial").remove_columns(["images", "masks"])
    assert sorted(map(int, rows["id"])) == list(range(1, 3_001))
    assert Counter(rows["category"]) == {"yes/adversarial": 1_500, "no/adversarial": 1_500}
    for row in rows:
        boxes = [box for expression in row["key_expressions"] for box in expression["boxes"]]
        names = there[(int(row["id"]) - 1) // 6]
        asked = row["question"].split(maxsplit=3)[3].removesuffix(" in the image?")
        expected = [[5 + 15 * k, 10, 17 + 15 * k, 30] for k, name in enumerate(names) if name == asked]
        assert boxes == expected, row["question"]


def test_repeated_questions_and_missing_images_are_named(published, build, tmp_path):
    """A benchmark is whole or not at all: scores over a part of it would be something else."""
    folder, _ = published
    data = tmp_path / "data"
    data.mkdir()
    for path in folder.iterdir():
        (data / path.name).symlink_to(path)
    path = data / "coco_pope_random.json"
    lines = path.read_text().splitlines()[:12]
    path.unlink()
    for change, message in (
        ([*lines, lines[3]], "the question id was there already"),
        (
            [*lines, lines[3].replace('"question_id": 4', '"question_id": 3001').replace(coco_name(0), "none.jpg")],
            "none.jpg",
        ),
    ):
        path.write_text("\n".join(change) + "\n")
        with pytest.raises(ValueError, match=f"1 of 13 samples failed.*{message}"):
            build("fivl_pope", tmp_path / "out", data_dir=str(data), splits=("random",), settings={"restart": True})
        # What is wrong is only one question: without it, the split is built.
    path.write_text("\n".join(lines) + "\n")
    options = {"data_dir": str(data), "splits": ("random",), "settings": {"restart": True}}
    assert build("fivl_pope", tmp_path / "out", **options).tally.kept == 12
