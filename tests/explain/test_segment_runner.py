import json

import numpy as np
import pytest
from PIL import Image

from fivl_hf.augment.scenes import SceneGrounder, scene_image
from fivl_hf.augment.words import WordFinder
from fivl_hf.explain import prompted
from fivl_hf.explain.segment_runner import segmentation_table, write_segmentation
from fivl_hf.scenes.rendering import scene

ABOUT = {"model": "m", "dataset": "d"}
EXACT = WordFinder({None: SceneGrounder()}, scene_image)


@pytest.fixture(autouse=True)
def predictions(monkeypatch, processor):
    """Set what every patch predicts, by the model that was loaded last: an untrained one predicts anything."""
    words = {"baseline": "circle", "fivl": "ring", "m": "ring"}
    loaded = []

    def predicted(_, sample):
        token = processor.tokenizer.convert_tokens_to_ids(words[loaded[-1]])
        return np.full(len(sample.image_positions), token)

    monkeypatch.setattr(prompted, "vision_predictions", predicted)
    return loaded


@pytest.fixture
def models(model, processor, predictions):
    """Loads a model by its name."""

    def loader(name):
        return lambda: (predictions.append(name), (model, processor))[1]

    return lambda *names: {name: loader(name) for name in names}


def with_shape(rows, shape):
    """Count the rows whose scene has a shape."""
    return sum(any(thing.shape == shape for thing in scene(row["id"]).objects) for row in rows)


def test_two_models_side_by_side(models, predictions, rows, tmp_path):
    measured = write_segmentation(models("baseline", "fivl"), rows[:12], EXACT, tmp_path, pictures=2, about=ABOUT)
    assert predictions == ["baseline", "fivl"]
    for name, shape in (("baseline", "circle"), ("fivl", "ring")):
        assert measured[name]["n"] == 12
        assert measured[name]["by_threshold"]["exact"]["found"] == with_shape(rows[:12], shape) > 0
    assert json.loads((tmp_path / "segmentation.json").read_text()) == {**ABOUT, "models": measured}
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) == 2
    assert Image.open(pictures[0]).height > 2 * 288
    header, *lines = segmentation_table(measured)
    assert header.split()[:3] == ["threshold", "model", "IoU"]
    assert [line.split()[:2] for line in lines] == [["exact", "baseline"], ["exact", "fivl"]]


def test_it_goes_on_where_it_was_interrupted(models, rows, tmp_path):
    class Breaking(WordFinder):
        def find(self, row_id, image, words):
            if row_id == rows[2]["id"]:
                raise KeyboardInterrupt
            return super().find(row_id, image, words)

    breaking = Breaking({None: SceneGrounder()}, scene_image)
    whole = write_segmentation(models("m"), rows[:4], EXACT, tmp_path / "whole", pictures=0, about=ABOUT)
    with pytest.raises(KeyboardInterrupt):
        write_segmentation(models("m"), rows[:4], breaking, tmp_path / "out", pictures=0, about=ABOUT)
    assert len((tmp_path / "out" / "segments-m.jsonl").read_text().splitlines()) == 2
    assert write_segmentation(models("m"), rows[:4], EXACT, tmp_path / "out", pictures=0, about=ABOUT) == whole
    with pytest.raises(ValueError, match="of another run"):
        write_segmentation(models("m"), rows[:4], EXACT, tmp_path / "out", about={**ABOUT, "model": "n"})


def test_rows_that_are_broken_or_without_an_image_are_left_out(models, rows, tmp_path):
    """They are listed, and count in no mean."""
    broken = {**rows[1], "images": [{"bytes": b"no image", "path": None}]}
    text = {**rows[2], "images": [], "key_expressions": [], "masks": []}
    measured = write_segmentation(models("m"), [broken, text, rows[0]], EXACT, tmp_path, about=ABOUT)
    assert (measured["m"]["n"], measured["m"]["tokens_per_sample"]) == (1, 1)
    assert set(measured["m"]["problems"]) == {rows[1]["id"], rows[2]["id"]}
    assert measured["m"]["problems"][rows[2]["id"]] == "it has no image"
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 1
