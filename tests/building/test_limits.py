import pytest

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.masks import decode_mask
from fivl_hf.storage import load_rows, write_dataset


def test_limits_leave_out_expressions_and_say_so(imported, build, tmp_path):
    options = {"config_name": "augmented", "data_dir": str(imported[0]), "max_coverage": 0.1, "evidence_only": True}
    result = build("fivl_instruct", tmp_path / "small", **options, settings={"limit": 80, "seed": 1})
    rows = load_rows(tmp_path / "small", "train")
    assert 0 < len(rows) < 80
    assert result.tally.dropped == {"no key expression is within the limits": 80 - len(rows)}
    assert all(decode_mask(mask).mean() <= 0.1 for row in rows for mask in row["masks"])
    again = tmp_path / "again"
    build("fivl_instruct", again, **options, settings={"limit": 80, "seed": 1})
    assert load_rows(again, "train")["id"] == rows["id"]


def test_low_scores_are_left_out_and_unknown_ones_kept(build, tmp_path):
    made = list(scene_rows("train", 3))
    for row in made:
        for expression, score in zip(row["key_expressions"], (0.2, 0.95), strict=True):
            expression["score"] = score
    made[2]["key_expressions"][0]["score"] = None
    write_dataset(tmp_path / "rows", {"train": made}, title="S", description="D")
    build("fivl_instruct", tmp_path / "out", config_name="augmented", data_dir=str(tmp_path / "rows"), min_score=0.9)
    found = [[e["score"] for e in row["key_expressions"]] for row in load_rows(tmp_path / "out", "train")]
    assert found == [[pytest.approx(0.95)], [pytest.approx(0.95)], [None, pytest.approx(0.95)]]


def test_wrong_limits_are_refused(imported, build, tmp_path):
    with pytest.raises(ValueError, match="max_coverage must be from 0 to 1, got 30"):
        build("fivl_instruct", tmp_path / "x", config_name="augmented", data_dir=str(imported[0]), max_coverage=30)
