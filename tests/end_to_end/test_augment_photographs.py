"""``fivl augment`` on photographs: real-class Grounding DINO and SAM (tiny, random), COCO masks, both engines."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from datasets import load_dataset
from PIL import Image
from random_models import save_grounding_dino, save_sam

from fivl_hf.cli.main import main
from fivl_hf.schema import validate_row

TALKS = {
    "astronaut": ("What does the woman wear?", "The woman wears an orange space suit and a flag."),
    "chelsea": ("What animal is it?", "A striped cat with green eyes."),
    "coffee": ("What is on the table?", "There is a cup of coffee on a saucer with a spoon."),
    "rocket": ("Is there a rocket in the image?", "Yes"),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A LLaVA file with photographs, and models."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "images" / "coco").mkdir(parents=True)
    entries = []
    for number, (name, (question, answer)) in enumerate(TALKS.items()):
        path = f"coco/{number + 1:012d}.jpg"
        Image.fromarray(getattr(skimage.data, name)()).save(folder / "images" / path)
        talk = [{"from": "human", "value": f"{question}\n<image>"}, {"from": "gpt", "value": answer}]
        entries.append({"id": f"{number + 1:012d}", "image": path, "conversations": talk})
    entries.append({**entries[0], "image": "coco/missing.jpg"})
    (folder / "mix.json").write_text(json.dumps(entries))
    save_grounding_dino(folder / "dino", size=128)
    save_sam(folder / "sam")
    return folder


def augment(inputs, output, *options):
    command = [
        "augment",
        "--input",
        str(inputs / "mix.json"),
        "--images",
        str(inputs / "images"),
        "--output",
        str(output),
    ]
    return main([*command, "--extractor", "offline", *options])


def rows(folder):
    return load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache")).to_list()


def test_grounded_sam_on_photographs_by_both_engines(inputs, tmp_path, capsys):
    models = ["--detector", str(inputs / "dino"), "--segmenter", str(inputs / "sam"), "--threshold", "0.9"]
    models += ["--shard-size", "2", "--workers", "1"]
    assert augment(inputs, tmp_path / "local", *models) == 0
    assert "5 read = 4 kept + 0 dropped + 1 failed" in capsys.readouterr().out
    found = rows(tmp_path / "local")
    for row in found:
        view = validate_row(row)
        image = inputs / "images" / "coco" / f"{row['id']}.jpg"
        assert row["images"][0]["bytes"] == image.read_bytes()
        assert {e.keywords for e in view.key_expressions}
    assert [e["text"] for e in found[1]["key_expressions"]] == ["striped cat", "green eyes"]
    assert [(e["text"], e["start"]) for e in found[3]["key_expressions"]] == [("rocket", -1)]
    assert augment(inputs, tmp_path / "ray", *models, "--engine", "ray") == 0
    assert rows(tmp_path / "ray") == found


def test_exact_masks_of_annotations_take_the_detectors_place(inputs, tmp_path):
    coco = {
        "images": [{"id": 2, "file_name": "000000000002.jpg", "width": 451, "height": 300}],
        "annotations": [{"image_id": 2, "category_id": 17, "segmentation": [[100, 50, 300, 50, 300, 250, 100, 250]]}],
        "categories": [{"id": 17, "name": "cat"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    annotations = ["--annotations", str(tmp_path / "instances.json")]
    assert augment(inputs, tmp_path / "fivl", "--grounder", "annotations", *annotations) == 0
    (row,) = rows(tmp_path / "fivl")
    (expression,) = row["key_expressions"]
    assert (expression["text"], expression["score"]) == ("striped cat", None)
    assert expression["boxes"] == [[100, 50, 300, 250]]
    mask = np.asarray(load_dataset(str(tmp_path / "fivl"), split="train")[0]["masks"][0])
    assert mask.sum() == 200 * 200


def test_the_example_of_an_own_grounder_runs(inputs, tmp_path):
    script = Path(__file__).parents[2] / "examples" / "own_grounder.py"
    command = [sys.executable, str(script), str(inputs / "mix.json"), str(inputs / "images"), str(tmp_path / "fivl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "read=5, kept=4" in done.stdout
    assert len(rows(tmp_path / "fivl")) == 4


def test_the_report_shows_images_and_reasons(inputs, tmp_path):
    coco = {"images": [], "annotations": [], "categories": []}
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    assert augment(
        inputs, tmp_path / "none", "--grounder", "annotations", "--annotations", str(tmp_path / "instances.json")
    )
    models = ["--detector", str(inputs / "dino"), "--segmenter", str(inputs / "sam"), "--threshold", "0.9"]
    assert augment(inputs, tmp_path / "fivl", *models) == 0
    page = (tmp_path / "fivl" / "report.html").read_text()
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert "failed: the image is missing" in page
    assert '<div class="soft">000000000001-2</div>' in page
    assert re.search(r"<tr><td>segmenter</td><td>[^<]*sam</td></tr>", page)
    assert "0 of 10 key expressions can supervise patches (left out: 10 × mask over 30% of the image)" in page
    report = json.loads((tmp_path / "fivl" / "report.json").read_text())
    assert report["targets"] == {"mask over 30% of the image": 10, "rows without a usable expression": 4}
    problems = [json.loads(line) for line in (tmp_path / "fivl" / "problems.jsonl").read_text().splitlines()]
    assert [problem["id"] for problem in problems if problem["kind"] == "failed"] == ["000000000001-2"]
    assert "missing.jpg" in problems[0]["detail"]
