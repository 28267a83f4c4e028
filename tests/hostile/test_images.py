"""Images that would run a program, take memory, or are a stranger's way to files of this machine."""

import io
import json
import struct
import zlib
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, List
from limits import limited
from PIL import Image as PILImage
from scripted_server import Answer

from fivl_hf.augment.inputs.conversations import Conversation, StoredImage, image_file
from fivl_hf.augment.inputs.readers import read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.augment.rows import Sample, build_rows
from fivl_hf.augment.scenes import scene_rows
from fivl_hf.augment.tools import ToolSettings
from fivl_hf.cli.main import main
from fivl_hf.images import ImageError, image_bytes, open_image, open_rgb, stored_size
from fivl_hf.schema import BENCHMARK_FEATURES, FEATURES
from fivl_hf.storage import load_rows, write_dataset

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"


def claiming(side, mode="L"):
    """A PNG of one pixel that claims to be ``side`` pixels wide and high."""
    small = image_bytes(PILImage.new(mode, (1, 1)))
    large = small[:16] + struct.pack(">II", side, side) + small[24:]
    return large[:29] + struct.pack(">I", zlib.crc32(large[12:29])) + large[33:]


def whole(side):
    """A 16-bit PNG of zeros, a few hundred kilobytes that decode to gigabytes."""
    packer = zlib.compressobj()
    data = b"".join(packer.compress(bytes(2 * side + 1)) for _ in range(side)) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    framed = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


HOSTILE = {
    "EPS named .jpg": (EPS, "unreadable image"),
    "PDF": (b"%PDF-1.4\n%%EOF", "unreadable image"),
    "zero bytes": (b"", r"an empty file \(0 bytes\)"),
    "claims 12,000²": (claiming(12_000), "12000x12000 pixels is too large"),
    "16 bit, 13,000²": (whole(13_000), "13000x13000 pixels is too large"),
    "claims 65,536 x 65,536": (claiming(65_536), "decompression bomb"),
    "truncated": (image_bytes(PILImage.effect_noise((99, 99), 50))[:900], "truncated"),
    "text": (b"<html>not found</html>", "unreadable image"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_before_it_is_decoded(name):
    data, message = HOSTILE[name]
    for open_it in (open_image, stored_size) if name not in ("zero bytes", "truncated") else (open_image,):
        with pytest.raises(ImageError, match=message):
            limited(partial(open_it, data), megabytes=200)


def test_what_pillow_would_open_by_its_content_is_not_opened_from_a_path(tmp_path):
    (tmp_path / "a.jpg").write_bytes(EPS)
    with pytest.raises(ImageError, match="unreadable image"):
        open_image(tmp_path / "a.jpg")


def test_whatever_a_decoder_raises_is_an_image_error(monkeypatch):
    def broken(self):
        raise KeyError("tile")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", broken)
    with pytest.raises(ImageError, match="tile"):
        open_image(image_bytes(PILImage.new("L", (1, 1))))


def talk(image):
    messages = ({"role": "user", "content": "What?"}, {"role": "assistant", "content": "A car."})
    return Sample(Conversation("c", (image,), messages, "test"), None)


def test_one_fails_its_sample_and_not_the_run(tmp_path):
    with (tmp_path / "big.jpg").open("wb") as file:
        file.truncate(100_000_001)
    images = [StoredImage(data, "a.jpg") for data, _ in HOSTILE.values()]
    images += [image_file("big.jpg", [tmp_path]), StoredImage(image_bytes(PILImage.new("RGB", (6, 4))), "b.png")]
    tools = ToolSettings(grounder="scenes")(0)
    outcomes = [found.result for found in build_rows([talk(image) for image in images], tools)]
    assert [getattr(found, "reason", None) for found in outcomes[:-1]] == ["the image cannot be read"] * 9
    assert "at most 100,000,000 are read" in outcomes[-2].detail
    assert "the image cannot be read" not in repr(outcomes[-1])


def test_an_empty_image_in_a_training_is_named(model, processor, rows, config):
    from fivl_hf import FiVLTrainer

    bad = {**rows[0], "id": "bad", "images": [{"bytes": b"", "path": None}]}
    dataset = Dataset.from_list([bad], features=FEATURES)
    trainer = FiVLTrainer(model=model, args=config(), train_dataset=dataset, processing_class=processor)
    with pytest.raises(ValueError, match=r"row 'bad'.*an empty file \(0 bytes\)"):
        trainer.train()


@pytest.fixture
def stranger(tmp_path):
    """A dataset whose second row has no image of its own, but names a file of this machine."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(next(iter(scene_rows("train", 1)))["images"][0]["bytes"])
    found = list(scene_rows("test", 3))
    found[1]["images"] = [{"bytes": None, "path": str(secret)}]
    (tmp_path / "set").mkdir()
    features = BENCHMARK_FEATURES if "question" in found[0] else FEATURES
    pq.write_table(pa.Table.from_pylist(found, schema=features.arrow_schema), tmp_path / "set" / "test.parquet")
    return tmp_path / "set"


REFUSED = r"row 1, column 'images': the image is the file '.*secret\.png', outside the dataset's folder"


def test_no_command_reads_files_that_a_dataset_names(stranger, tmp_path, capsys, serve):
    server = serve(lambda *_: Answer('{"answer": "yes"}'))
    (tmp_path / "model").mkdir()  # no model is loaded
    rows = ["--dataset", str(stranger), "--split", "test"]
    asked = ["--model", "m", "--base-url", server.url]
    commands = [
        [
            "build",
            "fivl_instruct",
            "--config",
            "augmented",
            "--data-dir",
            str(stranger),
            "--output",
            str(tmp_path / "b"),
        ],
        ["show", str(stranger), "--row", "1", "--output", str(tmp_path / "a.html")],
        ["judge", *rows, *asked, "--output", str(tmp_path / "judged")],
        ["evaluate", "--model", str(tmp_path / "model"), *rows, "--output", str(tmp_path / "evaluated")],
        ["explain", "--model", str(tmp_path / "model"), *rows, "--output", str(tmp_path / "explained")],
    ]
    for command in commands:
        assert main(command) == 1, command
        error = capsys.readouterr().err
        assert "outside the dataset's folder" in error, error
    assert not server.asked


def test_all_forms_of_a_path_are_seen(tmp_path, stranger):
    with pytest.raises(ValueError, match=REFUSED):
        load_rows(stranger, "test")
    with pytest.raises(ValueError, match=r"row 0, column 'images'"):
        load_rows(stranger, "test[1:]")
    assert len(load_rows(stranger, "test[2:]")) == 1
    paths = [{**row, "images": ["../../etc/passwd.png"]} for row in scene_rows("test", 1)]
    (tmp_path / "paths").mkdir()
    pq.write_table(pa.Table.from_pylist(paths), tmp_path / "paths" / "test.parquet")
    with pytest.raises(ValueError, match="a list of images was expected"):
        load_rows(tmp_path / "paths", "test")
    (stranger / "secret.png").write_bytes((tmp_path / "secret.png").read_bytes())
    table = pq.read_table(stranger / "test.parquet").to_pylist()
    table[1]["images"][0]["path"] = str(stranger / "secret.png")
    pq.write_table(pa.Table.from_pylist(table, schema=FEATURES.arrow_schema), stranger / "test.parquet")
    assert len(load_rows(stranger, "test")) == 3


@pytest.mark.parametrize("feature", [List(Image(mode="RGB")), List(Image(), length=1), List(Image(mode="L"), length=1)])
def test_no_feature_makes_datasets_open_an_image(stranger, tmp_path, feature, monkeypatch):
    """`datasets` opens whatever Pillow opens: files elsewhere, and EPS by Ghostscript."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: 1 / 0)
    rows = pq.read_table(stranger / "test.parquet").to_pylist()
    features = Features({**FEATURES, "images": feature})
    Dataset.from_list(rows, features=features).to_parquet(stranger / "test.parquet")
    with pytest.raises(ValueError, match=REFUSED):
        load_rows(stranger, "test")
    records = list(read_conversations(InputSettings(str(stranger), split="test")))
    assert [type(record).__name__ for record in records] == ["Conversation", "Failure", "Conversation"]
    rows[1]["images"] = [{"bytes": EPS, "path": None}]
    Dataset.from_list(rows, features=features).to_parquet(stranger / "test.parquet")
    assert load_rows(stranger, "test")[1]["images"][0]["bytes"] == EPS
    assert len(list(read_conversations(InputSettings(str(stranger), split="test")))) == 3


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "/etc/passwd", "a/../../b.jpg", "..\\a.jpg", "C:/a.jpg", "", 3, "a\0b", ".", "a" * 300 + ".jpg"],
)
def test_names_that_leave_the_image_folder_fail_their_sample(tmp_path, name):
    (tmp_path / "images").mkdir()
    talk = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A car."}]
    (tmp_path / "mix.json").write_text(json.dumps([{"id": "1", "image": [name], "conversations": talk}]))
    source = InputSettings(str(tmp_path / "mix.json"), images=(tmp_path / "images",))
    (record,) = read_conversations(source)
    assert type(record).__name__ == "Failure"


def test_one_picture_of_a_thousand_rows_is_refused(tmp_path, capsys):
    write_dataset(tmp_path / "set", {"test": scene_rows("test", 60)}, title="S", description="D")
    command = ["show", str(tmp_path / "set"), "--sample", "60", "--output"]
    assert main([*command, str(tmp_path / "a.png")]) == 1
    assert "a picture holds at most 50 rows, got 60: write a page (.html)" in capsys.readouterr().err


@pytest.mark.parametrize("beyond", [0.5, 1.01, -0.001])
def test_a_float_tiff_is_shown_as_a_viewer_shows_it(beyond):
    """Also where resampling left one value a little beyond the range."""
    image = PILImage.new("F", (60, 40), 0.5)
    image.putpixel((59, 39), beyond)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    assert open_rgb(buffer.getvalue()).getpixel((0, 0)) == (127, 127, 127)
