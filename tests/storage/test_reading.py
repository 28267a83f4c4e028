import pytest

from fivl_hf.storage import load_rows


def test_loading_names_a_missing_column(row, tmp_path, dataset):
    dataset.remove_columns("masks").to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="column 'masks' is missing"):
        load_rows(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="no dataset folder"):
        load_rows("/no/such/folder", "train")
