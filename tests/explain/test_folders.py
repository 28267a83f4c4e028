import json

import pytest

from fivl_hf.cli.main import main
from fivl_hf.storage import write_dataset


@pytest.mark.parametrize("order", [("explain", "knockout"), ("knockout", "explain")])
def test_a_folders_explanation_has_its_knockout(model, processor, rows, tmp_path, order):
    write_dataset(tmp_path / "rows", {"test": rows[:6]}, title="S", description="D")
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    about = ["--model", str(tmp_path / "model"), "--dataset", str(tmp_path / "rows"), "--output", str(tmp_path / "out")]
    options = {"explain": ["--pictures", "0", "--boxes", "0"], "knockout": ["--draws", "2", "--sizes", "1"]}
    for command in order:
        assert main([command, *about, *options[command]]) == 0
    explanation = json.loads((tmp_path / "out" / "explanation.json").read_text())
    knockout = json.loads((tmp_path / "out" / "knockout.json").read_text())
    assert explanation["knockout"] == {name: knockout[name] for name in ("how", "sizes", "before", "sets")}

    other = ["--split", "test[:5]", "--restart"]
    assert main(["explain", *about, *options["explain"], *other]) == 0
    assert "knockout" not in json.loads((tmp_path / "out" / "explanation.json").read_text())
