import numpy as np
import pytest
from PIL import Image
from planted import planted, planted_rows

from fivl_hf.cli.main import main
from fivl_hf.explain.grounding import compare_boxes, ground
from fivl_hf.explain.other_images import image_groups
from fivl_hf.explain.samples import prepare
from fivl_hf.images import open_rgb
from fivl_hf.masks import box_iou
from fivl_hf.show.drawing import enlarge


@pytest.fixture(scope="module")
def known():
    return planted("plain")


def test_the_planted_head_grounds_what_it_looks_at(known):
    for row in planted_rows(4):
        image = open_rgb(row["images"][0])
        found = ground(known.model, known.processor, image, "red ring", heads=[known.head])
        assert found.heads == (known.head,)
        assert box_iou([found.box], row["key_expressions"][0]["boxes"])[0, 0] > 0.2
        # Found without being named, among the localization heads of this image.
        assert known.head in ground(known.model, known.processor, image, "red ring").heads


def test_boxes_of_chosen_heads_are_compared_on_held_out_rows(known):
    rows = planted_rows(16)
    samples = [
        (key, prepare(known.model, known.processor, row)) for key, row in zip(image_groups(rows), rows, strict=True)
    ]
    found = compare_boxes(known.model, [sample for _, sample in samples[:6]], samples[6:], count=1)
    assert found["heads by masks"]["heads"] == [list(known.head)]
    assert found["localization heads"]["heads"] == [list(known.head)]
    assert found["localization heads"]["iou"] == found["heads by masks"]["iou"]
    assert "heads" not in found["all heads"]
    assert all(each["n"] == 10 for each in found.values())
    low, high = found["heads by masks"]["iou"]["confidence_interval"]
    assert low < found["heads by masks"]["iou"]["value"] < high
    assert found["heads by masks"]["iou"]["value"] > 0.3
    bare = [
        (key, {**row, "key_expressions": [], "masks": []}) for key, row in zip(image_groups(rows), rows, strict=True)
    ]
    bare = [(key, prepare(known.model, known.processor, row)) for key, row in bare]
    with pytest.raises(ValueError, match="none of the rows to measure on has a key expression"):
        compare_boxes(known.model, [sample for _, sample in samples[:6]], bare)


def test_the_command_draws_a_box(known, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known.model.save_pretrained(tmp_path / "model")
    known.processor.save_pretrained(tmp_path / "model")
    image = open_rgb(planted_rows(1)[0]["images"][0])
    image.save(tmp_path / "image.png")
    assert main(["ground", "model", "image.png", "red ring", "--heads", "1,2"]) == 0
    assert "red ring: " in (printed := capsys.readouterr().out)
    assert "(x0, y0, x1, y1), by layer 1 head 2" in printed
    drawn = Image.open("grounded.png")
    assert drawn.size == (480, 480)
    assert np.any(np.asarray(drawn) != np.asarray(enlarge(image, 480)))
    assert main(["ground", "model", "image.png", "red ring", "--heads", "9,2"]) == 1
    assert "layer 9, head 2: the model has 3 layers of 32 heads, counted from 0" in capsys.readouterr().err


def test_bad_input_is_named(known, tmp_path, capsys):
    known.model.save_pretrained(tmp_path / "model")
    known.processor.save_pretrained(tmp_path / "model")
    (tmp_path / "bad.png").write_text("no image")
    Image.new("RGB", (20, 20)).save(tmp_path / "good.png")
    model = str(tmp_path / "model")
    assert main(["ground", model, str(tmp_path / "bad.png"), "ring"]) == 1
    assert "bad.png is an unreadable image" in capsys.readouterr().err
    assert main(["ground", model, str(tmp_path / "good.png"), "ring", "--output", str(tmp_path / "no/x.png")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main(["ground", model, str(tmp_path / "good.png"), "a <image>", "--output", str(tmp_path / "x.png")]) == 1
    assert "'<image>', which has a meaning of its own" in capsys.readouterr().err
