import io

import numpy as np
import pytest
from datasets import Dataset
from example_rows import change, encoded
from PIL import Image

from fivl_hf.images import open_image
from fivl_hf.masks import encode_mask
from fivl_hf.schema import FEATURES, RowError, validate_row
from fivl_hf.storage import load_rows, write_dataset


def test_a_good_row_becomes_its_dataclass_view(row):
    view = validate_row(row)
    assert view.turns[0].answer[13:20] == view.key_expressions[0].text == "red car"
    assert view.sizes == ((8, 6),)
    assert view.key_expressions[0].boxes == ((2.0, 1.0, 5.0, 3.0),)


def test_system_message_and_benchmark_row(row):
    with_system = {**row, "messages": [{"role": "system", "content": "Be brief."}, *row["messages"]]}
    assert validate_row(with_system).system == "Be brief."
    benchmark = {k: v for k, v in row.items() if k != "messages"}
    benchmark |= {"question": "What?", "answers": ["A red car, a red car.", "car"], "category": "x"}
    assert validate_row(benchmark).answers == ("A red car, a red car.", "car")


BAD = [
    (("masks", 0), {"bytes": encode_mask(np.ones((6, 7), bool)), "path": None}, r"masks\[0\]'.*8x6, found 7x6"),
    (("masks",), [], r"masks'.*\(1\), found 0 masks"),
    (("masks", 0), encoded(Image.new("RGB", (8, 6))), r"masks\[0\]'.*mode RGB"),
    (("key_expressions", 0, "boxes"), [[2, 1, 9, 3]], r"boxes\[0\]'.*inside the 8x6 image, found \(2.0, 1.0, 9.0"),
    (("key_expressions", 0, "boxes"), [[2, 1, 2, 3]], r"boxes\[0\]'.*x0 < x1"),
    (("key_expressions", 0, "boxes"), [[2, 1, float("nan"), 3]], r"four finite numbers"),
    (("key_expressions", 0, "start"), 2, r"start/end'.*span of 'red car'"),
    (("key_expressions", 0, "end"), 99, r"start/end'.*\[13, 99\)"),
    (("key_expressions", 0, "turn"), 1, r"turn'.*0 to 0"),
    (("key_expressions", 0, "image"), 1, r"image'.*one of 1 images, found 1"),
    (("key_expressions", 0, "score"), 1.5, r"score'.*found 1.5"),
    (("key_expressions", 0, "text"), " ", r"text'.*non-empty"),
    (("images", 0), {"bytes": b"not an image", "path": None}, r"images\[0\]'.*readable image"),
    (("images", 0), {"bytes": None, "path": "/nowhere.png"}, r"images\[0\]'.*readable image.*nowhere"),
    (("images", 0), 17, r"images\[0\]'.*int in place of an image"),
    (("messages", 1, "role"), "user", r"messages'.*user and assistant in turn"),
    (("messages", 1, "content"), None, r"messages\[1\]'.*text as content"),
    (("id",), "", r"id'.*non-empty"),
    (("messages", 1), {"content": "no role"}, r"messages\[1\]'.*a role and a text"),
    (("key_expressions", 0), None, r"key_expressions\[0\]'.*fields, found None"),
    (("key_expressions", 0, "start"), None, r"start'.*whole number, found None"),
    (("key_expressions", 0, "image"), True, r"image'.*whole number, found True"),
    (("key_expressions", 0, "boxes"), [["a", 1, 2, 3]], r"boxes\[0\]'.*four finite"),
    (("images",), 5, r"images'.*a list, found 5"),
    (("messages",), 5, r"messages'.*a list, found 5"),
    (("masks",), 5, r"masks'.*a list, found 5"),
    (("source",), 5, r"source'.*a string or null, found 5"),
    (("key_expressions", 0, "boxes"), [[0, 0, 10**400, 1]], r"boxes\[0\]'.*four finite"),
    (("key_expressions", 0, "boxes"), [[0, 0, True, True]], r"boxes\[0\]'.*four finite"),
    (("key_expressions", 0, "keywords"), None, r"keywords'.*list of strings, found None"),
    (("key_expressions", 0, "keywords"), [3], r"keywords'.*list of strings"),
    (("key_expressions", 0, "boxes"), None, r"boxes'.*list of boxes"),
    (("key_expressions", 0, "boxes"), [[1, 2, 3]], r"boxes\[0\]'.*four finite"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_bad_input_names_row_and_column(row, path, value, message):
    with pytest.raises(RowError, match=message) as error:
        validate_row(change(row, path, value), name="row-7")
    assert "row 'row-7'" in str(error.value)


def test_numpy_numbers_are_numbers(row):
    changed = change(row, ("key_expressions", 0, "turn"), np.int64(0))
    assert validate_row(change(changed, ("key_expressions", 0, "score"), np.float32(0.5))).key_expressions[0].turn == 0


def test_a_turned_photograph_is_checked_upright(row):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    buffer = io.BytesIO()
    Image.new("RGB", (6, 8)).save(buffer, "JPEG", exif=exif)
    turned = change(row, ("images", 0), {"bytes": buffer.getvalue(), "path": None})
    assert validate_row(turned).sizes == ((8, 6),)
    decoded = Dataset.from_list([turned], features=FEATURES)[0]["images"][0]
    assert decoded.size == open_image(turned["images"][0]).size


@pytest.mark.parametrize("column", ["id", "images", "messages", "key_expressions", "masks", "source"])
def test_a_missing_column_is_named(row, column):
    del row[column]
    with pytest.raises(RowError, match=f"column '{column}'.*missing"):
        validate_row(row)


def test_a_truncated_image_is_found(row):
    whole = encoded(Image.effect_noise((200, 200), 60).convert("RGB"), "JPEG")["bytes"]
    cut = change(row, ("images", 0), {"bytes": whole[: len(whole) // 2], "path": None})
    with pytest.raises(RowError, match=r"images\[0\]'.*truncated"):
        validate_row(cut)


def test_pil_images_are_treated_as_their_bytes_are(row, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 8)).save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as image:
        assert validate_row({**row, "images": [image]}).sizes == ((8, 6),)
    (tmp_path / "cut.jpg").write_bytes(encoded(Image.effect_noise((200, 200), 60), "JPEG")["bytes"][:3000])
    with Image.open(tmp_path / "cut.jpg") as image, pytest.raises(RowError, match=r"images\[0\]'.*truncated"):
        validate_row({**row, "images": [image]})
    write_dataset(
        tmp_path / "set", {"train": [{**row, "images": [Image.new("CMYK", (8, 6))]}]}, title="T", description=""
    )
    assert open_image(load_rows(tmp_path / "set", "train")[0]["images"][0]).mode == "RGB"
