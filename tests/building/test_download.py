"""The release fetched from a stand-in Hub by the command, as a user runs it."""

import json
import os
import shutil

import pytest
from hub_server import Repo
from synthetic_release import make_release

from fivl_hf.building.download import missing_images
from fivl_hf.cli.main import main

RELEASE, CONVERSATIONS = ("datasets", "Intel/fivl-instruct"), ("datasets", "liuhaotian/LLaVA-Instruct-150K")


@pytest.fixture
def published(hub, tmp_path):
    """A release of 60 samples on the Hub, its images in a folder.

    The archive ends in 25 MB of zeros: huggingface_hub keeps what has come in steps of 10 MB.
    """
    made = make_release(tmp_path / "made", 60, hostile=False)
    with (made.folder / "dataset_grounded.tar").open("ab") as archive:
        archive.write(bytes(25_000_000))
    files = {name: (made.folder / name).read_bytes() for name in ("fivl_instruct.json", "dataset_grounded.tar")}
    hub.repos[RELEASE] = Repo(branches={"main": files})
    name = "llava_v1_5_mix665k.json"
    hub.repos[CONVERSATIONS] = Repo(branches={"main": {name: (made.folder / name).read_bytes()}})
    return made


def build(fivl, data, output):
    return fivl("build", "fivl_instruct", "--data-dir", data, "--download", "--output", output, "--workers", "1")


def test_a_release_is_downloaded_images_are_named_and_then_it_is_built(fivl, hub, published, tmp_path):
    data, archive = tmp_path / "data", published.folder / "dataset_grounded.tar"
    hub.cut_downloads.add("dataset_grounded.tar")
    done = build(fivl, data, tmp_path / "out")
    assert not hub.cut_downloads, "the archive was cut off in the middle, and went on from there"
    assert hub.served < 1.2 * (archive.stat().st_size + (data / "fivl_instruct.json").stat().st_size)
    assert done.returncode == 1
    assert (data / "dataset_grounded.tar").read_bytes() == archive.read_bytes()
    assert f"       12 images, 12 missing  {data / 'coco/train2017'}" in done.stdout
    assert f"unpack http://images.cocodataset.org/zips/train2017.zip in {data / 'coco'}" in done.stdout
    assert "60 images are missing: fill the folders above" in done.stderr
    assert not (tmp_path / "out").exists()

    for name in ("coco", "gqa", "ocr_vqa", "textvqa", "vg"):
        shutil.copytree(published.folder / name, data / name)
    served = hub.served
    done = build(fivl, data, tmp_path / "out")
    assert "1 image is missing" in done.stderr  # one that the release itself lacks
    image = next(iter(published.missing_image))
    (folder,) = (path for path in data.glob("*/*") if path.name == "images" and path.parent.name == "gqa")
    shutil.copy(next(folder.glob("*.jpg")), folder / f"{image}.jpg")
    done = build(fivl, data, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "train: 62 rows" in done.stdout, done.stdout
    assert hub.served == served, "complete files are not sent again"


def test_a_file_that_was_changed_is_not_taken(fivl, hub, published, tmp_path):
    data = tmp_path / "data"
    assert "images are missing" in build(fivl, data, tmp_path / "out").stderr
    path = data / "dataset_grounded.tar"
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = build(fivl, data, tmp_path / "out")
    assert "is not the file on the Hub" in done.stderr
    assert "delete it and run the command again" in done.stderr


def test_what_cannot_be_downloaded_is_said(fivl, hub, published, tmp_path):
    data = tmp_path / "data"
    del hub.repos[RELEASE].branches["main"]["dataset_grounded.tar"]
    assert "holds no dataset_grounded.tar" in build(fivl, data, tmp_path / "out").stderr
    del hub.repos[RELEASE]
    assert "the Hub's dataset Intel/fivl-instruct" in build(fivl, data, tmp_path / "out").stderr


def test_mistakes_are_said(tmp_path, capsys):
    def error(*arguments):
        assert main(["build", *arguments, "--download", "--output", str(tmp_path / "out")]) == 1
        return capsys.readouterr().err

    data = ("--data-dir", str(tmp_path / "data"))
    assert "nothing can be downloaded: HF_HUB_OFFLINE is set" in error("fivl_instruct", *data)
    assert "for fivl_instruct alone" in error("fivl_pope", *data)
    assert "for fivl_instruct alone" in error("fivl_instruct", "--config", "augmented", *data)
    assert "--download needs --data-dir" in error("fivl_instruct")


def test_missing_images_are_counted_by_folder(tmp_path):
    samples = [{"id": "0", "image": "coco/train2017/1.jpg"}, {"id": "1", "image": "coco/train2017/1.jpg"}]
    samples += [{"id": "2", "image": "vg/VG_100K/2.jpg"}, {"id": "3"}, {"id": "4", "image": "../outside.jpg"}]
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    path = tmp_path / "llava.json"
    path.write_text(json.dumps([{**sample, "conversations": turns} for sample in samples]))
    (tmp_path / "more" / "vg" / "VG_100K").mkdir(parents=True)
    (tmp_path / "more" / "vg" / "VG_100K" / "2.jpg").touch()
    counts = missing_images(path, (tmp_path, tmp_path / "more"))
    assert counts == {"coco/train2017": (1, 1), "vg/VG_100K": (1, 0)}
