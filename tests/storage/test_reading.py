import pytest
from benchmark_folders import as_benchmark, write_benchmark

from fivl_hf.storage import load_rows


def test_loading_names_a_missing_column(row, tmp_path, dataset):
    dataset.remove_columns("masks").to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="column 'masks' is missing"):
        load_rows(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="no dataset folder"):
        load_rows("/no/such/folder", "train")


def test_folders_of_one_name_are_not_taken_for_each_other(rows, tmp_path):
    def written(folder, chosen):
        return write_benchmark(tmp_path / folder, "test", as_benchmark(chosen, "GQA"))

    first, second = written("a/same", rows[:3]), written("b/same", rows[3:5])
    assert load_rows(first, "test")["id"][:] == [row["id"] for row in rows[:3]]
    assert load_rows(second, "test")["id"][:] == [row["id"] for row in rows[3:5]]
    # Nor what stands there now for what stood there before.
    written("a/same", rows[5:9])
    assert load_rows(first, "test")["id"][:] == [row["id"] for row in rows[5:9]]
