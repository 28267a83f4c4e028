import json
import subprocess
import sys
from pathlib import Path

import pytest
from conversation_files import IMAGE, read, write
from datasets import Dataset, Features, Image, List, Value

from fivl_hf.augment.inputs.conversations import Conversation
from fivl_hf.augment.inputs.readers import count_records, input_format, read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.jobs.outcomes import Drop, Failure


def entry(id="1", image="coco/a.jpg", question="<image>\nWhat is it?", answer="A car.", **more):
    talk = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": id, "image": image, "conversations": talk, **more}


def test_llava_list_with_the_quirks_of_mix665k(tmp_path, images):
    text_only = {k: v for k, v in entry("2").items() if k != "image"}
    entries = [
        entry(7, question="What is it?\n<image>"),
        entry("7"),
        text_only,
        entry("7", image=["coco/a.jpg", "coco/b.jpg"]),
        entry("4", image="../../etc/passwd"),
        {"id": "5", "image": "coco/a.jpg", "conversations": []},
        {"id": "6", "image": "coco/a.jpg", "conversations": [{"from": "robot", "value": "x"}]},
        "not an object",
    ]
    records = read(write(tmp_path / "mix.json", entries), images=images)
    first = records[0]
    assert isinstance(first, Conversation)
    assert first.messages[0] == {"role": "user", "content": "What is it?"}
    assert first.images[0].read() == IMAGE
    assert first.source == "mix/coco"
    assert [record.id for record in records] == ["7", "7-2", "2", "7-3", "4", "5", "6", "item 7"]
    assert records[2] == Drop("2", "no image")
    assert len(records[3].images) == 2
    assert isinstance(records[4], Failure)
    assert "leaves the image folder" in records[4].detail
    assert records[5] == Drop("5", "the conversation is empty")
    assert isinstance(records[6], Failure)
    assert isinstance(records[7], Failure)


def test_json_lines_name_a_broken_line(tmp_path, images):
    lines = [json.dumps(entry("1")), "{broken", "", json.dumps(entry("2"))]
    records = read(write(tmp_path / "mix.jsonl", "\ufeff" + "\n".join(lines)), images=images)
    assert [record.id for record in records] == ["1", "line 2", "2"]
    assert records[1].reason == "the entry is not valid JSON"


def test_a_file_cut_off_says_where(tmp_path, images):
    whole = json.dumps([entry(str(i)) for i in range(50)])
    path = write(tmp_path / "mix.json", whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"mix\.json is not valid JSON after 2\d items"):
        read(path, images=images)


def test_formats_are_found_out(tmp_path, images):
    assert input_format("scenes") == "scenes"
    assert input_format("org/name") == "dataset"
    assert input_format(str(tmp_path)) == "dataset"
    with pytest.raises(ValueError, match="neither a list nor objects"):
        input_format(str(write(tmp_path / "x.json", "3")))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        read(write(tmp_path / "mix.json", [entry()]), images=(tmp_path / "none",))


@pytest.mark.parametrize("style", ["messages", "conversations", "question"])
def test_datasets_of_several_styles(tmp_path, style):
    talks = {
        "messages": [
            {"role": "user", "content": "What?"},
            {"role": "assistant", "content": "A car."},
        ],
        "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A car."}],
    }
    row = {"images": [{"bytes": IMAGE, "path": "a/b.png"}]}
    row |= {"question": "What?", "answer": "A car."} if style == "question" else {style: talks[style]}
    folder = tmp_path / "data"
    folder.mkdir()
    features = Features({"images": List(Image())} | {k: _feature(v) for k, v in row.items() if k != "images"})
    Dataset.from_list([row, row | {"images": []}], features=features).to_parquet(folder / "train.parquet")
    for source in (folder, folder / "train.parquet"):
        good, empty = read(source)
        assert good.messages == (
            {"role": "user", "content": "What?"},
            {"role": "assistant", "content": "A car."},
        )
        assert good.images[0].read() == IMAGE
        assert good.images[0].name == "b.png"
        assert empty.reason == "no image"
        assert good.answers == (("A car.",) if style == "question" else ())


@pytest.mark.parametrize("place", ["/etc/hostname", "../secret.png"])
def test_rows_may_not_name_files_elsewhere(tmp_path, place):
    (tmp_path / "data").mkdir()
    talk = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A car."}]
    Dataset.from_list([{"image": place, "messages": talk}]).to_parquet(tmp_path / "data" / "train.parquet")
    (record,) = read(tmp_path / "data")
    assert record.reason == "the image cannot be used"


def test_rows_may_name_files_of_their_folder(tmp_path):
    (tmp_path / "a.png").write_bytes(IMAGE)
    talk = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A car."}]
    rows_ = [{"image": name, "messages": talk} for name in ("a.png", str(tmp_path / "a.png"))]
    Dataset.from_list(rows_).to_parquet(tmp_path / "train.parquet")
    assert [record.images[0].read() for record in read(tmp_path)] == [IMAGE, IMAGE]


def _feature(value):
    return Value("string") if isinstance(value, str) else List({key: Value("string") for key in value[0]})


def test_limit_takes_the_first_and_a_seed_any(tmp_path, images):
    path = write(tmp_path / "mix.json", [entry(str(i)) for i in range(100)])
    assert [r.id for r in read(path, images=images, limit=3)] == ["0", "1", "2"]
    drawn = [int(r.id) for r in read(path, images=images, limit=10, seed=1)]
    assert drawn == sorted(drawn)
    assert len(set(drawn)) == 10
    assert max(drawn) > 10
    assert drawn == [int(r.id) for r in read(path, images=images, limit=10, seed=1)]
    assert count_records(InputSettings(str(path), images=images)) == 100


_PEAK = """
import json, re, sys
from fivl_hf.augment.inputs.readers import read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
count = sum(1 for _ in read_conversations(InputSettings(sys.argv[1])))
print(json.dumps([count, int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])]))
"""


def peak(path):
    done = subprocess.run([sys.executable, "-c", _PEAK, str(path)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """Ten times the samples, the same memory: both as one JSON list and as lines."""
    for name, begin, between, end in (("a.json", "[", ",\n", "]"), ("a.jsonl", "", "\n", "")):
        peaks = []
        for count in (2_000, 20_000):
            path = tmp_path / f"{count}{name}"
            body = between.join(json.dumps(entry(str(i // 2), answer="A car. " * 40)) for i in range(count))
            Path(path).write_text(begin + body + end)
            read_count, memory = peak(path)
            assert read_count == count
            peaks.append(memory)
        # In kB. The larger file has 9 MB of text more; a list of it takes several times that.
        assert peaks[1] - peaks[0] < 4_000, name


@pytest.mark.parametrize(("encoding", "problem"), [("utf-16", None), ("utf-8-sig", None), ("latin-1", "is not UTF-8")])
def test_tables_of_other_encodings(tmp_path, images, encoding, problem):
    path = tmp_path / "mix.csv"
    path.write_bytes("id,image,question,answer\né,coco/a.jpg,What?,A café.\n".encode(encoding))
    source = InputSettings(str(path), images=images)
    if problem:
        with pytest.raises(ValueError, match=rf"mix\.csv {problem}.*save it as UTF-8"):
            list(read_conversations(source))
    else:
        (record,) = read_conversations(source)
        assert (record.id, record.messages[1]["content"]) == ("é", "A café.")
