import shutil

import pytest
import torch
import transformers as tf

from fivl_hf import models
from fivl_hf.models import (
    existing_folder,
    hub_options,
    image_token_id,
    load_model,
    torch_dtype,
    usable_device,
    uses_cross_attention,
    weights_fingerprint,
)


@pytest.fixture
def saved(model, processor, tmp_path):
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_comes_with_its_processor_ready_to_evaluate(saved, model):
    loaded, processor = load_model(saved, device="cpu", dtype="bfloat16")
    assert not loaded.training
    assert loaded.dtype == torch.bfloat16
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == image_token_id(loaded.config)
    weights = model.state_dict()
    assert all(torch.equal(value, weights[name].bfloat16()) for name, value in loaded.state_dict().items())


def test_damaged_weights_name_the_cure(saved):
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1_000])
    with pytest.raises(ValueError, match=r"is truncated or corrupt .*save or download it again"):
        load_model(saved, device="cpu")


def test_a_copy_has_the_same_fingerprint_and_other_weights_another(saved, tmp_path):
    before = weights_fingerprint(saved)
    shutil.copytree(saved, tmp_path / "copy")
    (tmp_path / "copy" / "training_args.bin").write_bytes(b"anything")
    assert weights_fingerprint(tmp_path / "copy") == before
    file = tmp_path / "copy" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\1\2\3\4")
    assert weights_fingerprint(tmp_path / "copy") != before
    assert weights_fingerprint(tmp_path) is None
    assert weights_fingerprint("nobody/has-this") is None


def test_names_that_are_neither_here_nor_on_the_hub(tmp_path):
    for name in ("./nowhere", "/nowhere", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="there is no model folder"):
            existing_folder(name, "model")
    assert existing_folder("me/model", "model") == "me/model"
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE is set.*or use another"):
        hub_options("me/model", "model", "use another")
    assert hub_options(tmp_path, "model") == {}


def test_an_unreachable_hub_is_asked_once(monkeypatch):
    import httpx2

    calls = []

    class Session:
        def head(self, url, timeout):
            calls.append(url)
            raise httpx2.ConnectError("no route")

    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr("huggingface_hub.utils.get_session", lambda: Session())
    models.hub_is_reachable.cache_clear()
    try:
        assert not models.hub_is_reachable()
        assert not models.hub_is_reachable()
    finally:
        models.hub_is_reachable.cache_clear()
    assert len(calls) == 1


def test_devices_and_dtypes_by_name():
    assert usable_device("cpu") == "cpu"
    assert torch_dtype("float16") is torch.float16
    with pytest.raises(ValueError, match="device 'toaster' cannot be used"):
        usable_device("toaster")
    with pytest.raises(ValueError, match="got 'Tensor'"):
        torch_dtype("Tensor")


def test_visual_tokens_by_the_configs_name_for_them(model):
    assert image_token_id(model.config) == model.config.image_token_index
    assert image_token_id(tf.LlamaConfig()) == -1
    mllama = tf.MllamaConfig()
    assert uses_cross_attention(mllama)
    assert image_token_id(mllama) == -1
