import json

import peft
import pytest

from fivl_hf.cli.main import main
from fivl_hf.evaluation.table import read_answers
from fivl_hf.models import load_model


def test_the_papers_protocol_and_a_preview_without_a_model(demo, tmp_path, capsys):
    command = ["evaluate", "--dataset", str(demo / "fivl"), "--split", "test[:3]", "--output", str(tmp_path / "e")]
    assert main([*command, "--preview", "2"]) == 0
    assert (tmp_path / "e" / "preview.html").stat().st_size > 1000
    assert main(command) == 1
    assert "name the model with --model" in capsys.readouterr().err
    command += ["--model", str(demo / "models" / "fivl"), "--protocol", "paper"]
    assert main([*command, "--scorer", "contains"]) == 1
    assert "--protocol paper fixes --scorer: leave out one of the two" in capsys.readouterr().err
    assert main([*command, "--conditions", "random,removed"]) == 0
    assert main(command) == 0
    result = json.loads((tmp_path / "e" / "reliance.json").read_text())
    assert (result["scoring"], result["fill"], result["scope"]) == ("exact", "black", "evidence")
    answers = list(read_answers(tmp_path / "e" / "answers.jsonl"))
    accuracy, masked = (
        sum(each.score for each in answers if each.condition == name) / 3 for name in ("original", "removed")
    )
    assert (result["accuracy"], result["masked_accuracy"]) == (pytest.approx(accuracy), pytest.approx(masked))
    expected = (accuracy - masked) / accuracy if accuracy else None
    assert result["visual_reliance_score"] == (None if expected is None else pytest.approx(expected))


def test_an_adapter_is_evaluated_as_the_model_it_makes(demo, tmp_path):
    """LoRA's weights are large, so that what it says is not what its base says."""
    base = demo / "models" / "fivl"
    model, processor = load_model(base)
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, lora)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data *= 20
    adapted.save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    processor.save_pretrained(tmp_path / "merged")
    said = {}
    for name, place in (("base", base), ("adapter", tmp_path / "adapter"), ("merged", tmp_path / "merged")):
        rows = ["--dataset", str(demo / "fivl"), "--split", "test[:4]", "--output", str(tmp_path / f"{name} said")]
        assert main(["evaluate", "--model", str(place), *rows]) == 0
        said[name] = [each.answer for each in read_answers(tmp_path / f"{name} said" / "answers.jsonl")]
    assert said["adapter"] == said["merged"] != said["base"]


def test_a_model_answers_without_some_heads(demo, tmp_path, capsys):
    command = ["evaluate", "--model", str(demo / "models" / "fivl"), "--dataset", str(demo / "fivl")]
    command += ["--split", "test[:4]", "--conditions", "original,removed"]
    heads = ["--knock-out", *(f"{layer},{head}" for layer in range(3) for head in range(6))]
    said = {}
    for name, more in (("whole", []), ("zero", heads), ("edges", [*heads, "--knock-out-how", "edges"])):
        out = tmp_path / name
        assert main([*command, *more, "--output", str(out)]) == 0
        said[name] = [each.answer for each in read_answers(out / "answers.jsonl")]
    assert said["whole"] != said["zero"]
    result = json.loads((tmp_path / "zero" / "reliance.json").read_text())
    assert (len(result["knocked_out"]), result["knocked_out_how"]) == (18, "zero")
    # Without the edges to the image, what is in it makes no difference to text tokens.
    by_condition = {}
    for each in read_answers(tmp_path / "edges" / "answers.jsonl"):
        by_condition.setdefault(each.id, set()).add(each.answer)
    assert all(len(answers) == 1 for answers in by_condition.values())
    assert main([*command, "--output", str(tmp_path / "zero")]) == 1
    assert "of another run (knocked_out: " in capsys.readouterr().err
    assert main([*command, "--knock-out", "9,0", "--output", str(tmp_path / "none")]) == 1
    assert "layer 9, head 0: the model has 3 layers" in capsys.readouterr().err
