import json
import shutil

import pytest

from fivl_hf.hub.push import dataset_upload, metric_upload, model_upload


def test_what_is_not_whole_is_not_pushed(scenes_folder, tmp_path):
    shutil.copytree(scenes_folder, tmp_path / "half")
    file = sorted((tmp_path / "half" / "data").glob("train*"))[0]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"{file.name} is truncated or not a Parquet file"):
        dataset_upload(tmp_path / "half", "me/x")
    file.unlink()
    with pytest.raises(ValueError, match="split train has 0 rows, but its card says 12"):
        dataset_upload(tmp_path / "half", "me/x")
    with pytest.raises(ValueError, match=r"holds no README.md"):
        dataset_upload(tmp_path, "me/x")
    (tmp_path / "README.md").write_text("# Something else")
    with pytest.raises(ValueError, match="not a dataset card of fivl-hf"):
        dataset_upload(tmp_path, "me/x")
    with pytest.raises(ValueError, match="holds no model"):
        model_upload(tmp_path, "me/x")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no weights"):
        model_upload(tmp_path, "me/x")
    (tmp_path / "model.safetensors").write_bytes(b"\x10" + b"\0" * 100)
    with pytest.raises(ValueError, match=r"model.safetensors is not a complete safetensors file"):
        model_upload(tmp_path, "me/x")


def test_names_are_checked(scenes_folder):
    for wrong in ("scenes", "me/a b", "me/x/y", "me/.."):
        with pytest.raises(ValueError, match="name"):
            dataset_upload(scenes_folder, wrong)
    with pytest.raises(ValueError, match="push it to me/visual_reliance_score"):
        metric_upload("visual_reliance_score", "me/vrs", "fivl-hf")
    with pytest.raises(ValueError, match="no metric named 'bleu'"):
        metric_upload("bleu", "me", "fivl-hf")


def test_an_adapter_of_a_base_model_that_nobody_has_is_refused(tmp_path, demo):
    (tmp_path / "adapter_model.safetensors").write_bytes(
        (demo / "models" / "baseline" / "model.safetensors").read_bytes()
    )
    adapter = tmp_path / "adapter_config.json"
    for base, message in ((str(demo), "which nobody else has"), (None, "names no base model")):
        adapter.write_text(json.dumps({"base_model_name_or_path": base} if base else {}))
        with pytest.raises(ValueError, match=message):
            model_upload(tmp_path, "me/x")
    adapter.write_text(json.dumps({"base_model_name_or_path": "llava-hf/llava-1.5-7b-hf"}))
    assert model_upload(tmp_path, "me/x").card.startswith("---")
