import pyarrow.parquet as pq
import pytest

from fivl_hf.images import ImageError
from fivl_hf.storage import load_rows, write_dataset
from fivl_hf.storage.parquet_files import ParquetRows, split_files


@pytest.fixture
def folder(tmp_path, rows):
    write_dataset(tmp_path / "set", {"train": rows, "test": rows[:3]}, title="S", description="D")
    return tmp_path / "set"


def test_rows_are_those_of_the_dataset(folder):
    rows = ParquetRows(split_files(folder, "train"))
    loaded = load_rows(folder, "train")
    assert len(rows) == len(loaded) == 24
    assert [rows[number] for number in (0, 23, 7)] == [loaded[number] for number in (0, 23, 7)]
    listed = [row for batch in rows.batches(("id", "source", "nothing")) for row in batch]
    assert listed == [{"id": row["id"], "source": row["source"]} for row in loaded]
    for number in (-1, 24):
        with pytest.raises(IndexError, match="there are 24, counted from 0"):
            rows[number]


def test_many_row_groups_are_read_one_by_one(folder, tmp_path, rows):
    table = pq.read_table(split_files(folder, "train")[0])
    pq.write_table(table, tmp_path / "groups.parquet", row_group_size=5)
    several = ParquetRows([str(tmp_path / "groups.parquet")] * 2)
    assert len(several) == 48
    ids = [row["id"] for row in rows]
    assert [several[number]["id"] for number in (47, 0, 24, 12, 5, 4)] == [
        ids[number % 24] for number in (47, 0, 24, 12, 5, 4)
    ]
    assert [len(batch) for batch in several.batches(("id",))] == [5, 5, 5, 5, 4] * 2


def test_what_cannot_be_read_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match="no split 'dev'; there are train, test"):
        split_files(folder, "dev")
    (tmp_path / "half.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"half.parquet is truncated or not a Parquet file"):
        ParquetRows([str(tmp_path / "half.parquet")])
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "train.csv").write_text("id\na\n")
    with pytest.raises(ValueError, match=r"train.csv is not a Parquet file"):
        split_files(tmp_path / "csv", "train")


def test_a_path_in_place_of_an_image_is_not_opened(folder, tmp_path):
    table = pq.read_table(split_files(folder, "test")[0])
    rows = table.to_pylist()
    rows[1]["images"] = [{"bytes": None, "path": "/etc/passwd"}]
    pq.write_table(table.from_pylist(rows, schema=table.schema), tmp_path / "hostile.parquet")
    hostile = ParquetRows([str(tmp_path / "hostile.parquet")])
    assert hostile[0]["id"]
    with pytest.raises(ImageError, match="row 1: an image is the file '/etc/passwd', which is not read"):
        hostile[1]
