"""The authors' release, generated in its exact format, imported whole."""

import json
import shutil

import pytest
from builder_sources import pope
from datasets import load_dataset
from synthetic_release import make_release

from fivl_hf.building.plans import BuildError
from fivl_hf.schema import validate_row
from fivl_hf.storage import load_rows


def test_everything_is_accounted_for(release, imported, rows):
    output, result = imported
    tally = result.tally
    # Of the samples that share an id and an image, both that the segments fit have evidence.
    twins = {f"{id}-2" for id in release.tied}
    assert set(rows["id"]) == release.expected | twins
    assert tally.kept == len(rows) == len(release.expected | twins)
    assert tally.kept + tally.dropped.total() + tally.failed.total() == tally.read
    assert dict(tally.failed) == {"the image is missing": len(release.missing_image)}
    unfit = len(release.duplicates) - len(release.tied)
    assert dict(tally.dropped) == {
        "the release has no segments for it": len(release.without_segments),
        "no key expression has a usable mask": len(release.hostile) + unfit,
        "no sample has the release's id": 1,
    }
    report = json.loads((output / "report.json").read_text())
    assert report["settings"]["ids_ambiguous"] == len(release.tied)
    assert report["settings"]["ids_of_several_samples"] == len(release.duplicates)
    missing = len(release.missing_tensor) + 2  # two of the attacks are not in the index
    assert report["rejected_expressions"] == {
        "its mask is not in the archive": missing,
        "its mask is refused: a pickle that holds more than a tensor": 1,
        "not in the answer": 3 * unfit,
    }


def test_no_attack_came_through(release, imported):
    assert not (release.folder.parent / "canary").exists()
    assert not (release.folder.parent / "outside.pt").exists()
    report = json.loads((imported[0] / "report.json").read_text())
    assert report["settings"]["archive_entries_refused"] == {
        "a name that leaves the archive": 1,
        "a header that claims more than there can be": 1,
    }


def test_image_bytes_are_the_source_files(release, rows):
    for row in rows.select(range(0, len(rows), 37)):
        collection = row["source"].split("/")[-1]
        (path,) = (release.folder / collection).rglob(f"{row['id'].removesuffix('-2')}.jpg")
        assert row["images"][0]["bytes"] == path.read_bytes()


def test_rows_are_whole_and_configurations_are_collections(imported, rows):
    for row in rows.select(range(0, len(rows), 37)):
        validate_row(row)
        assert row["messages"][0]["content"] == "What is in the image?"
        assert all(expression["keywords"] for expression in row["key_expressions"])
    for name in ("coco", "gqa", "ocr_vqa", "textvqa", "vg"):
        part = load_dataset(str(imported[0]), name, split="train")
        assert {source.split("/")[-1] for source in part["source"]} == {name}


def test_replaced_archive_is_indexed_anew(release, build, tmp_path):
    """A first build ends after its index was made; then other files come under the same names."""
    few = make_release(tmp_path / "few", 12, seed=1, hostile=False)
    sample = tmp_path / "few" / "llava_v1_5_mix665k.json"
    content = sample.read_text()
    sample.write_text('[{"id": "000000000000", "image": "x.jpg", "conversations": [}]')
    with pytest.raises(ValueError, match="not valid JSON"):
        build("fivl_instruct", tmp_path / "out", data_dir=str(few.folder))
    sample.write_text(content)
    build("fivl_instruct", tmp_path / "out", data_dir=str(few.folder))
    other = make_release(tmp_path / "few", 12, seed=2, hostile=False)
    build("fivl_instruct", tmp_path / "out", data_dir=str(few.folder), settings={"restart": True})
    for row in load_rows(tmp_path / "out", "train"):
        for expression in row["key_expressions"]:
            assert (row["id"], expression["turn"], expression["text"]) in other.grids


def test_benchmark_rows_are_no_conversations(build, tmp_path):
    build("fivl_pope", tmp_path / "pope", **pope(tmp_path))
    with pytest.raises(ValueError, match="holds a benchmark's questions, not conversations"):
        build("fivl_instruct", tmp_path / "out", config_name="augmented", data_dir=str(tmp_path / "pope"))


def test_release_of_other_conversations_is_refused(release, build, tmp_path):
    for path in release.folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "llava_v1_5_mix665k.json").unlink()
    other = [{"id": "x", "image": "coco/a.jpg", "conversations": []}]
    (tmp_path / "llava_v1_5_mix665k.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="do not belong together"):
        build("fivl_instruct", tmp_path / "out", data_dir=str(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("fivl_instruct.json", b"[1, 2]", "maps no sample id|not valid JSON"),
        ("fivl_instruct.json", b'{"a": [', "not valid JSON"),
        ("fivl_instruct.json", b'{"a": {"segments": []}, "b": 3}', "or of another version .a: TypeError: a list was"),
        ("fivl_instruct.json", b'{"a": [{"turn": 1, "prompts": [{"mask_rel": "x", "bbox": []}]}]}', "without 'prompt'"),
        ("dataset_grounded.tar", b"\x1f\x8b" + b"\0" * 600, "compressed"),
        ("llava_v1_5_mix665k.json", b'[{"id": "0000', "not valid JSON"),
    ],
)
def test_broken_files_are_named(release, build, tmp_path, name, content, message):
    for path in release.folder.iterdir():
        if path.name != name:
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        build("fivl_instruct", tmp_path / "out", data_dir=str(tmp_path))
    assert name in str(error.value)
    assert not (tmp_path / "out").exists()


def test_malformed_segments_fail_alone(release, build, tmp_path):
    """One sample's segments are nonsense of each kind; the others are imported."""
    for path in release.folder.iterdir():
        if path.name != "fivl_instruct.json":
            (tmp_path / path.name).symlink_to(path)
    segments = json.loads((release.folder / "fivl_instruct.json").read_text())
    ids = sorted(release.expected - release.duplicates - release.missing_tensor)[:6]
    broken = [None, {"turn": 1}, [{"turn": 0, "prompts": [{}]}], [{"turn": 1, "prompts": 5}], ["x"]]
    few = {id: segments[id] for id in ids} | dict(zip(ids, broken, strict=False))
    far = json.loads(json.dumps(segments[ids[5]]))
    far[0]["turn"] = 9
    few[ids[5]] = far
    (tmp_path / "fivl_instruct.json").write_text(json.dumps(few))
    result = build("fivl_instruct", tmp_path / "out", data_dir=str(tmp_path), evidence_only=True)
    assert result.tally.failed["its segments are not in the release's format"] == 5
    assert load_rows(tmp_path / "out", "train")["id"] == [ids[5]]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["rejected_expressions"]["the sample has no such turn"] == 2


def test_disk_full_leaves_no_dataset_and_the_next_run_goes_on(imported, build, tmp_path, monkeypatch):
    from fivl_hf.storage import writing

    write = writing._write_shard

    def full(path, tables):
        if path.parent.name == "data":
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return write(path, tables)

    options = {"config_name": "augmented", "data_dir": str(imported[0]), "settings": {"limit": 50}}
    monkeypatch.setattr(writing, "_write_shard", full)
    with pytest.raises(OSError, match="No space left"):
        build("fivl_instruct", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    build("fivl_instruct", tmp_path / "out", **options)
    assert len(load_rows(tmp_path / "out", "train")) == 50


def test_half_written_parquet_is_named(imported, build, tmp_path):
    shutil.copytree(imported[0], tmp_path / "half")
    file = sorted((tmp_path / "half" / "data").glob("*.parquet"))[0]
    file.write_bytes(file.read_bytes()[:5_000])
    with pytest.raises(ValueError, match=f"{file.name} is truncated or not a Parquet file"):
        build("fivl_instruct", tmp_path / "out", config_name="augmented", data_dir=str(tmp_path / "half"))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A release of 60 samples: of each kind one, of the first ten kinds two."""
    return make_release(tmp_path_factory.mktemp("small") / "files", 60, hostile=False)


@pytest.mark.parametrize("protocol", ["default", "paper"])
def test_samples_without_segments_stay_and_train_on_text(small, build, tmp_path, protocol):
    file = small.folder / "llava_v1_5_mix665k.json"
    entries = json.loads(file.read_text())
    talk = [{"from": "human", "value": "Hello."}, {"from": "gpt", "value": "Hello."}]
    if entries[-1]["id"] != "talk":
        # mix665k has conversations without an image, too.
        file.write_text(json.dumps([*entries, {"id": "talk", "conversations": talk}]))
    result = build("fivl_instruct", tmp_path / "out", data_dir=str(small.folder), protocol=protocol)
    rows = {row["id"]: row for row in load_rows(tmp_path / "out", "train")}
    (without,) = small.without_segments
    assert rows[without]["key_expressions"] == [] and rows[without]["images"]
    assert rows["talk"]["images"] == rows["talk"]["key_expressions"] == []
    # Both samples of an id are rows, and both get its segments as far as their answers have the expressions.
    twins = {id for id in rows if id.endswith("-2")}
    assert {id.removesuffix("-2") for id in twins} == small.duplicates
    for id in small.tied:
        assert len(rows[f"{id}-2"]["key_expressions"]) == len(rows[id]["key_expressions"]) > 0
    assert dict(result.tally.dropped) == {"no sample has the release's id": 1}
    report = json.loads((tmp_path / "out" / "report.json").read_text())["settings"]
    assert report["samples_without_image"] == 1


def test_expressions_inside_words_are_kept_by_the_papers_protocol(build, tmp_path):
    made = make_release(tmp_path / "files", 3, hostile=False)
    segments = json.loads((made.folder / "fivl_instruct.json").read_text())
    prompt = segments["000000000000"][0]["prompts"][0]
    inside = prompt["prompt"][1:]
    prompt["prompt"] = inside
    (made.folder / "fivl_instruct.json").write_text(json.dumps(segments))
    found = {}
    for protocol in ("default", "paper"):
        build("fivl_instruct", tmp_path / protocol, data_dir=str(made.folder), protocol=protocol)
        row = load_rows(tmp_path / protocol, "train")[0]
        found[protocol] = [expression["text"] for expression in row["key_expressions"]]
        for expression in row["key_expressions"]:
            answer = row["messages"][2 * expression["turn"] + 1]["content"]
            assert answer[expression["start"] : expression["end"]] == expression["text"]
    assert inside in found["paper"]
    assert inside not in found["default"]


def test_samples_of_one_id_about_other_images(build, tmp_path):
    """By default only the fitting one gets the segments; in the paper all do, also where only evidence is wanted."""
    made = make_release(tmp_path / "files", 3, hostile=False)
    file = made.folder / "llava_v1_5_mix665k.json"
    entries = json.loads(file.read_text())
    file.write_text(json.dumps([{**entries[0], "image": entries[1]["image"]}, *entries]))
    ids = {}
    for name, options in {"default": {}, "evidence": {"evidence_only": True}, "paper": {"protocol": "paper"}}.items():
        build("fivl_instruct", tmp_path / name, data_dir=str(made.folder), **options)
        rows = {row["id"]: row for row in load_rows(tmp_path / name, "train")}
        ids[name] = {id: bool(row["key_expressions"]) for id, row in rows.items()}
    first = entries[0]["id"]
    # What else is about the same expressions in its answers fits as well; the first of the file is chosen.
    assert ids["paper"][first] and ids["paper"][f"{first}-2"]
    assert sum(ids["default"][id] for id in (first, f"{first}-2")) == 1
    assert len(ids["evidence"]) == len(ids["default"]) - 1
    for name, options in (("fivl_scenes", {"protocol": "paper"}), ("fivl_pope", {"evidence_only": True})):
        with pytest.raises(BuildError, match=f"would change nothing here: {name} does not read it"):
            build(name, tmp_path / "none", **options)
