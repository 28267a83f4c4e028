import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fivl_hf.explain.measures import MEASURES
from fivl_hf.explain.runner import write_explanation
from fivl_hf.explain.score_table import choose_again


def test_heads_are_chosen_again_without_a_model(model, processor, rows, tmp_path):
    result = write_explanation(model, processor, rows[:8], tmp_path, pictures=0, boxes=0)
    path = tmp_path / "scores.parquet"
    again = choose_again(path)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(result["measures"]))
    other = choose_again(path, ["auroc"], count=2, resamples=50, seed=3)
    assert set(other) == {"auroc"}
    assert len(other["auroc"]["top_heads"]) == 2
    assert other["auroc"]["alignment"] == again["auroc"]["alignment"]
    assert other["auroc"]["held_out"]["confidence_interval"] != again["auroc"]["held_out"]["confidence_interval"]
    # The model has no sinks.
    assert choose_again(path, ["auroc_without_sinks"])["auroc_without_sinks"]["held_out"] == again["auroc"]["held_out"]
    table = pq.read_table(path).to_pylist()
    assert len(table) == result["n"]
    assert {"id", "image", "expression", "mask_share", "layers", "heads", "auroc", "auroc_control"} <= set(table[0])
    assert np.shape(table[0]["auroc"]) == (table[0]["layers"] * table[0]["heads"],)
    assert set(MEASURES) <= set(table[0])


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("no table")
    with pytest.raises(ValueError, match="a.parquet is not a Parquet file"):
        choose_again(tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="b.parquet has no column 'heads'"):
        choose_again(tmp_path / "b.parquet", ["auroc"])
