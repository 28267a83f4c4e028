"""Evidence for "no" questions: six images whose annotations say which objects go together."""

import json

import pytest
from builder_sources import coco_name, images

from fivl_hf.storage import load_rows

# Of three images with a knife, two have a fork and one a cup.
THINGS = [("knife", "fork"), ("knife", "fork"), ("knife", "cup"), ("fork", "fork", "cup"), ("cup",), ("zebra",)]
NAMES = ("cup", "fork", "knife", "zebra")


@pytest.fixture
def pope(tmp_path):
    """POPE's files: on each image, is there a knife?"""
    images(tmp_path / "val2014", [coco_name(i) for i in range(len(THINGS))])
    annotations = [
        {"image_id": i, "category_id": NAMES.index(name), "bbox": [10 + 20 * k, 20, 15, 15]}
        for i, things in enumerate(THINGS)
        for k, name in enumerate(things)
    ]
    coco = {
        "images": [{"id": i, "file_name": coco_name(i), "width": 96, "height": 64} for i in range(len(THINGS))],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)],
    }
    (tmp_path / "instances_val2014.json").write_text(json.dumps(coco))
    asked = [
        {
            "question_id": i + 1,
            "image": coco_name(i),
            "text": "Is there a knife in the image?",
            "label": "yes" if "knife" in things else "no",
        }
        for i, things in enumerate(THINGS)
    ]
    (tmp_path / "coco_pope_random.json").write_text("".join(json.dumps(each) + "\n" for each in asked))
    return {"data_dir": str(tmp_path)}


def rows(folder):
    return {row["id"]: row for row in load_rows(folder, "random")}


def boxes(row):
    return [box for expression in row["key_expressions"] for box in expression["boxes"]]


def test_by_default_what_is_absent_has_no_evidence(pope, build, tmp_path):
    build("fivl_pope", tmp_path / "out", **pope)
    made = rows(tmp_path / "out")
    assert [made[str(i)]["category"] for i in range(1, 7)] == ["yes/random"] * 3 + ["no/random"] * 3
    assert [bool(boxes(made[str(i)])) for i in range(1, 7)] == [True] * 3 + [False] * 3


def test_plausible_evidence_is_what_goes_most_often_with_the_absent_object(pope, build, tmp_path):
    build("fivl_pope", tmp_path / "out", absent="plausible", **pope)
    made = rows(tmp_path / "out")
    # Forks go with knives twice, cups once: both forks are the evidence, the cup beside them is not.
    assert made["4"]["category"] == "no/random/plausible"
    assert boxes(made["4"]) == [[10, 20, 25, 35], [30, 20, 45, 35]]
    assert [(e["text"], e["start"]) for e in made["4"]["key_expressions"]] == [("knife", -1)]
    assert (made["5"]["category"], boxes(made["5"])) == ("no/random/plausible", [[10, 20, 25, 35]])
    # A zebra never goes with a knife.
    assert (made["6"]["category"], boxes(made["6"])) == ("no/random", [])
    assert [made[str(i)]["category"] for i in range(1, 4)] == ["yes/random"] * 3
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["settings"]["absent"] == "plausible"


def test_other_uses_are_refused(pope, build, tmp_path):
    with pytest.raises(ValueError, match="absent must be 'plausible' or nothing, got 'likely'"):
        build("fivl_pope", tmp_path / "out", absent="likely", **pope)
    with pytest.raises(ValueError, match="absent would change nothing here: fivl_vqav2 does not read it"):
        build("fivl_vqav2", tmp_path / "out", absent="plausible", **pope)
