import json
import re

import pytest

from fivl_hf.cli.main import main
from fivl_hf.explain.knockout_plan import knockout_curves
from fivl_hf.explain.knockout_runner import write_knockout
from fivl_hf.explain.other_images import image_groups
from fivl_hf.explain.selection import image_halves
from fivl_hf.storage import write_dataset


def test_the_command_goes_on_where_it_stopped(model, processor, rows, tmp_path, capsys):
    write_dataset(tmp_path / "rows", {"test": rows[:6]}, title="S", description="D")
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    command = ["knockout", "--model", str(tmp_path / "model"), "--dataset", str(tmp_path / "rows")]
    command += ["--draws", "3", "--sizes", "1,2", "--window", "1"]
    for how in ("zero", "mean", "edges"):
        out = tmp_path / how
        assert main([*command, "--how", how, "--output", str(out)]) == 0
        result = json.loads((out / "knockout.json").read_text())
        assert [each["k"] for each in result["sets"]["aligned"]["effects"]] == [1, 2]
        assert all(0 < each["p"] <= 1 for found in result["sets"].values() for each in found["effects"])
        assert (out / "knockout.png").stat().st_size > 5000
        lines = (out / "knockout.jsonl").read_text().splitlines(True)
        sets = json.loads((out / "knockout.json").read_text())["sets"]
        effects = [each for found in sets.values() for each in found["effects"]]
        assert len(lines) == sum(1 + len(each["random"]["specific"]) for each in effects) + 2
        assert [each["layers"] for each in result["windows"]] == [[0, 0], [1, 1]]
        (out / "knockout.jsonl").write_text("".join(lines[:7]) + lines[7][:20])
        assert main([*command, "--how", how, "--output", str(out)]) == 0
        assert (out / "knockout.jsonl").read_text().splitlines(True) == lines
        assert json.loads((out / "knockout.json").read_text()) == result
    assert "random sets" in capsys.readouterr().out
    assert main([*command, "--how", "mean", "--output", str(tmp_path / "zero")]) == 1
    assert "holds the knockout of another run (how: 'zero', now 'mean')" in capsys.readouterr().err
    assert main([*command, "--sizes", "5", "--output", str(tmp_path / "new")]) == 1
    assert "sizes must be from 1 to 4, half of the 8 heads that see the image" in capsys.readouterr().err
    assert main([*command, "--split", "test[:1]", "--output", str(tmp_path / "one")]) == 1
    assert "the rows are about too few images" in capsys.readouterr().err


def test_rows_without_evidence_are_reported(model, processor, rows):
    bare = [{**row, "key_expressions": [], "masks": []} for row in rows[:4]]
    with pytest.raises(ValueError, match="no row has a key expression whose tokens and mask can be compared"):
        knockout_curves(model, processor, bare[:2], bare[2:])
    with pytest.raises(ValueError, match="none of the rows to measure on has a key expression"):
        knockout_curves(model, processor, rows[:2], bare[2:])


def test_few_rows_are_enough(model, processor, rows, tmp_path):
    """The effects are those on the first rows of the half that did not choose."""
    options = {"sizes": [1], "draws": 2, "about": {}}
    some = write_knockout(model, processor, rows[:12], tmp_path / "some", max_rows=2, **options)
    everything = write_knockout(model, processor, rows[:12], tmp_path / "all", max_rows=None, **options)
    groups = image_groups(rows[:12])
    choosing = image_halves(groups)
    measuring = [row for row, group in zip(rows, groups, strict=False) if group not in choosing]
    assert some["before"]["n"] == sum(len(row["key_expressions"]) for row in measuring[:2])
    assert everything["before"]["n"] == sum(len(row["key_expressions"]) for row in measuring)


def test_damaged_effects_are_named(model, processor, rows, tmp_path):
    options = {"sizes": [1], "draws": 1, "about": {"model": "m"}}
    write_knockout(model, processor, rows[:6], tmp_path, **options)
    file = tmp_path / "knockout.jsonl"
    file.write_text(re.sub(r'"specific": [-0-9.e]+', '"specific": "y"', file.read_text(), count=1))
    with pytest.raises(ValueError, match="knockout.jsonl, line 1, is not the effect of a set of heads: .* no number"):
        write_knockout(model, processor, rows[:6], tmp_path, **options)


def test_rows_without_evidence_are_not_called_too_few(model, processor, rows, tmp_path):
    bare = [{**row, "key_expressions": [], "masks": []} for row in rows[:4]]
    with pytest.raises(ValueError, match="no row has key expressions with masks"):
        write_knockout(model, processor, bare, tmp_path, about={})
