import json
from pathlib import Path

import yaml

from fivl_hf.cli.main import main
from fivl_hf.hub.measured_cards import MeasuredResults, measured_card, mismatches


def test_a_card_of_somebody_else_keeps_its_text_and_results_are_not_added_twice():
    loading = 'X.from_pretrained("llava-hf/llava-1.5-7b-hf")'
    text = f"---\nlicense: mit\ntags:\n- mine\n---\n\n# Mine\n\n{loading}\n"
    measured = MeasuredResults(reliance={"visual_reliance_score": None, "accuracy": 0.0, "n": 3})
    once = measured_card(text, "me/x", measured)
    assert measured_card(once, "me/x", measured) == once
    after = measured_card(once + "\n## Notes\n\nMine, too.\n", "me/x", measured)
    assert "Mine, too." in after
    assert after.count("Measured with fivl-hf") == 1
    front = yaml.safe_load(once.split("---\n")[1])
    assert front["license"] == "mit"
    assert front["tags"] == ["fivl", "mine"]
    assert loading in once
    assert once.count("Measured with fivl-hf") == 1


def test_results_of_another_kind_are_refused(tmp_path, capsys, demo):
    model = demo / "models" / "baseline"
    assert main(["push", "model", str(model), "me/x", "--dry-run", "--evaluation", str(tmp_path)]) == 1
    assert f"there is no {tmp_path / 'reliance.json'}" in capsys.readouterr().err
    Path(tmp_path / "reliance.json").write_text("{}")
    assert main(["push", "model", str(model), "me/x", "--dry-run", "--evaluation", str(tmp_path)]) == 1
    assert "holds no 'visual_reliance_score'" in capsys.readouterr().err
    Path(tmp_path / "reliance.json").write_text('{"visual_reliance_score": "high"}')
    assert main(["push", "model", str(model), "me/x", "--dry-run", "--evaluation", str(tmp_path)]) == 1
    assert "visual_reliance_score must be a number or null" in capsys.readouterr().err
    for content, message in (
        ('{"visual_reliance_score": 0.5, "confidence_interval": [0.1]}', "confidence_interval must be two numbers"),
        ('{"visual_reliance_score": 0.5, "accu', "reliance.json is not valid JSON"),
    ):
        Path(tmp_path / "reliance.json").write_text(content)
        assert main(["push", "model", str(model), "me/x", "--dry-run", "--evaluation", str(tmp_path)]) == 1
        assert message in capsys.readouterr().err
    Path(tmp_path / "explanation.json").write_text('{"top_heads": [], "best_head": {"layer": 1}}')
    assert main(["push", "model", str(model), "me/x", "--dry-run", "--explanation", str(tmp_path)]) == 1
    assert "best_head must have layer, head and score" in capsys.readouterr().err


def test_results_of_another_model_are_refused(demo, capsys):
    """Each model's own results are accepted, those of the other only with --force, which the card tells."""
    push = ["push", "model", str(demo / "models" / "baseline"), "me/x", "--dry-run"]
    own, other = (str(demo / "measurements" / name) for name in ("baseline", "fivl"))
    assert main([*push, "--evaluation", own, "--explanation", own]) == 0
    card = capsys.readouterr().out
    assert "# me/x" in card
    assert "Visual Reliance Score" in card
    assert "Pushed with" not in card
    for options in (["--evaluation", other], ["--explanation", other], ["--evaluation", own, "--explanation", other]):
        assert main([*push, *options]) == 1
        assert "was measured with other weights (fivl)" in capsys.readouterr().err
    assert main([*push, "--evaluation", other, "--force"]) == 0
    assert "> Pushed with `--force`: the evaluation was measured with other weights (fivl)." in capsys.readouterr().out


def test_results_without_a_fingerprint_of_another_version_or_of_other_rows_are_refused(demo):
    folder = demo / "models" / "baseline"
    found = json.loads((demo / "measurements" / "baseline" / "reliance.json").read_text())
    assert mismatches(folder, MeasuredResults(found, found)) == []
    bare = {key: value for key, value in found.items() if key != "weights_fingerprint"}
    assert mismatches(folder, MeasuredResults(bare)) == [
        "the evaluation does not say which weights it was measured with"
    ]
    assert (
        "with fivl-hf 0.0.1, this is" in mismatches(folder, MeasuredResults({**found, "fivl_hf_version": "0.0.1"}))[0]
    )
    assert "different rows" in mismatches(folder, MeasuredResults(found, {**found, "rows_fingerprint": "0"}))[0]
