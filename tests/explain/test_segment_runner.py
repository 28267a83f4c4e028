import json

import numpy as np
import pytest
from PIL import Image

from fivl_hf.augment.scenes import SceneWordGrounder, scene_image
from fivl_hf.augment.words import WordFinder
from fivl_hf.explain import prompted
from fivl_hf.explain.segment_runner import segmentation_table, write_segmentation

ABOUT = {"model": "m", "dataset": "d"}
EXACT = WordFinder({None: SceneWordGrounder()}, scene_image)


@pytest.fixture(autouse=True)
def _every_patch_predicts_a_word(monkeypatch, processor):
    """An untrained model predicts anything."""
    ring = processor.tokenizer.convert_tokens_to_ids("ring")
    monkeypatch.setattr(prompted, "vision_predictions", lambda _, sample: np.full(len(sample.image_positions), ring))


def test_two_models_side_by_side(model, processor, rows, tmp_path):
    loaded = []

    def load(name):
        loaded.append(name)
        return model, processor

    models = {name: (lambda name=name: load(name)) for name in ("baseline", "fivl")}
    measured = write_segmentation(models, rows[:4], EXACT, tmp_path, pictures=2, about=ABOUT)
    assert loaded == ["baseline", "fivl"]
    assert measured["baseline"] == measured["fivl"]
    assert measured["fivl"]["n"] == 4
    assert json.loads((tmp_path / "segmentation.json").read_text()) == {**ABOUT, "models": measured}
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) == 2
    assert Image.open(pictures[0]).height > 2 * 288
    header, *lines = segmentation_table(measured)
    assert header.split()[:3] == ["threshold", "model", "IoU"]
    assert [line.split()[:2] for line in lines] == [["exact", "baseline"], ["exact", "fivl"]]


def test_it_goes_on_where_it_was_interrupted(model, processor, rows, tmp_path):
    class Breaking(WordFinder):
        def find(self, row_id, image, words):
            if row_id == rows[2]["id"]:
                raise KeyboardInterrupt
            return super().find(row_id, image, words)

    models = {"m": lambda: (model, processor)}
    breaking = Breaking({None: SceneWordGrounder()}, scene_image)
    whole = write_segmentation(models, rows[:4], EXACT, tmp_path / "whole", pictures=0, about=ABOUT)
    with pytest.raises(KeyboardInterrupt):
        write_segmentation(models, rows[:4], breaking, tmp_path / "out", pictures=0, about=ABOUT)
    assert len((tmp_path / "out" / "segments-m.jsonl").read_text().splitlines()) == 2
    assert write_segmentation(models, rows[:4], EXACT, tmp_path / "out", pictures=0, about=ABOUT) == whole
    with pytest.raises(ValueError, match="of another run"):
        write_segmentation(models, rows[:4], EXACT, tmp_path / "out", about={**ABOUT, "model": "n"})


def test_a_broken_row_is_listed(model, processor, rows, tmp_path):
    broken = {**rows[1], "images": [{"bytes": b"no image", "path": None}]}
    models = {"m": lambda: (model, processor)}
    measured = write_segmentation(models, [rows[0], broken], EXACT, tmp_path, about=ABOUT)
    assert measured["m"]["n"] == 1
    assert list(measured["m"]["problems"]) == [rows[1]["id"]]
