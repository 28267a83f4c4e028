import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from example_rows import change
from PIL import Image

from fivl_hf.images import open_image
from fivl_hf.schema import RowError
from fivl_hf.storage import load_rows, write_dataset


def test_parquet_keeps_image_bytes(row, tmp_path):
    folder = tmp_path / "set"
    write_dataset(folder, {"train": [row, {**row, "id": "a2"}]}, title="T", description="D")
    stored = load_rows(folder, "train")
    assert stored[1]["id"] == "a2"
    for column in ("images", "masks"):
        assert stored[0][column][0]["bytes"] == row[column][0]["bytes"]
    decoded = load_dataset(str(folder), split="train")[0]
    assert decoded["masks"][0].mode == "1"
    assert decoded["key_expressions"][0]["text"] == "red car"
    streamed = next(iter(load_dataset(str(folder), split="train", streaming=True)))
    assert streamed["id"] == "a1"


def test_a_bad_row_leaves_no_folder(row, tmp_path):
    with pytest.raises(RowError):
        write_dataset(tmp_path / "set", {"train": [row, change(row, ("masks",), [])]}, title="T", description="D")
    assert not list(tmp_path.iterdir())


def test_paths_and_pil_images_are_embedded(row, tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(row["images"][0]["bytes"])
    by_path = {**row, "id": "p", "images": [{"bytes": None, "path": str(path)}]}
    as_pil = {**row, "id": "q", "images": [Image.new("RGB", (8, 6))], "masks": [Image.new("1", (8, 6))]}
    write_dataset(tmp_path / "set", {"train": [by_path, as_pil]}, title="T", description="D")
    path.unlink()
    stored = load_rows(tmp_path / "set", "train")
    assert stored[0]["images"][0]["bytes"] == row["images"][0]["bytes"]
    assert open_image(stored[1]["masks"][0]).mode == "1"


def test_empty_splits_and_odd_titles_load(row, tmp_path):
    write_dataset(tmp_path / "set", {"train": [row], "test": []}, title="A: 'title'", description="D")
    assert {name: len(split) for name, split in load_dataset(str(tmp_path / "set")).items()} == {"train": 1}
    with pytest.raises(ValueError, match="no rows"):
        write_dataset(tmp_path / "none", {"train": []}, title="T", description="D")


def test_kinds_of_rows_are_not_mixed(row, tmp_path):
    benchmark = {k: v for k, v in row.items() if k != "messages"}
    benchmark |= {"id": "b", "question": "What?", "answers": ["A red car, a red car."], "category": ""}
    with pytest.raises(RowError, match="row 'b'.*rows of one kind"):
        write_dataset(tmp_path / "set", {"train": [row, benchmark]}, title="T", description="D")
    write_dataset(tmp_path / "set", {"train": [benchmark]}, title="T", description="D")
    assert load_rows(tmp_path / "set", "train")[0]["question"] == "What?"


def test_split_names_and_kinds_are_checked_before_anything_is_kept(row, tmp_path):
    with pytest.raises(ValueError, match="split's name.*'test-x'"):
        write_dataset(tmp_path / "set", {"test-x": [row]}, title="T", description="D")
    benchmark = {k: v for k, v in row.items() if k != "messages"}
    benchmark |= {"question": "What?", "answers": ["A red car, a red car."], "category": ""}
    with pytest.raises(ValueError, match="splits of one dataset"):
        write_dataset(tmp_path / "set", {"train": [row], "test": [benchmark]}, title="T", description="D")
    assert not list(tmp_path.iterdir())


def test_its_own_folder_is_replaced_whatever_its_title(row, tmp_path):
    for name in ("one", "two"):
        write_dataset(tmp_path / "set", {"train": [{**row, "id": name}]}, title="A --- B", description="D")
    assert load_rows(tmp_path / "set", "train")["id"] == ["two"]


def test_a_folder_of_somebody_else_is_left_alone(row, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not a dataset of fivl-hf"):
        write_dataset(tmp_path / "set", {"train": [row]}, title="T", description="D")
    assert (tmp_path / "set" / "thesis.txt").exists()


def test_ids_are_unique_within_a_split(row, tmp_path):
    with pytest.raises(RowError, match="row 'a1': column 'id'.*earlier row"):
        write_dataset(tmp_path / "set", {"train": [row, row]}, title="T", description="D")


def test_row_groups_stay_small(row, tmp_path, monkeypatch):
    monkeypatch.setattr("fivl_hf.storage.writing.ROW_GROUP_BYTES", 5_000)
    monkeypatch.setattr("fivl_hf.storage.writing.SHARD_BYTES", 20_000)
    write_dataset(tmp_path / "set", {"train": [{**row, "id": str(i)} for i in range(60)]}, title="T", description="D")
    shards = sorted((tmp_path / "set" / "data").glob("*.parquet"))
    assert len(shards) > 1
    assert all(pq.ParquetFile(shard).num_row_groups > 1 for shard in shards[:-1])
    assert load_rows(tmp_path / "set", "train")["id"] == [str(i) for i in range(60)]


def test_a_folder_written_anew_is_not_served_from_the_cache(row, tmp_path):
    for name in ("first", "second"):
        write_dataset(tmp_path / "set", {"train": [{**row, "id": name}]}, title="T", description="D")
        assert load_rows(tmp_path / "set", "train")["id"] == [name]
    write_dataset(tmp_path / "other" / "set", {"train": [{**row, "id": "third"}]}, title="T", description="D")
    assert load_rows(tmp_path / "other" / "set", "train")["id"] == ["third"]


def test_files_are_written_as_datasets_writes_them(row, tmp_path):
    """Images as they are, pages that end where the content says so, and an index of the pages."""
    write_dataset(tmp_path / "set", {"train": [row]}, title="T", description="D")
    (path,) = (tmp_path / "set" / "data").glob("*.parquet")
    Dataset.from_parquet(str(path)).to_parquet(tmp_path / "theirs.parquet")
    ours, theirs = (pq.ParquetFile(file).metadata for file in (path, tmp_path / "theirs.parquet"))
    assert ours.metadata[b"content_defined_chunking"] == theirs.metadata[b"content_defined_chunking"]
    columns = [
        [group.column(i) for i in range(group.num_columns)] for group in (ours.row_group(0), theirs.row_group(0))
    ]
    for mine, other in zip(*columns, strict=True):
        assert (mine.path_in_schema, mine.compression) == (other.path_in_schema, other.compression)
        assert mine.has_offset_index and mine.has_column_index == other.has_column_index
    stored = {column.path_in_schema: column.compression for column in columns[0]}
    assert stored["images.list.element.bytes"] == "UNCOMPRESSED"
    assert stored["messages.list.element.content"] == "SNAPPY"
