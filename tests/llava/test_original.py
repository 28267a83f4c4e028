"""Tiny checkpoints in the layout of LLaVA's own code: keys, config and files as its ``save_pretrained`` leaves them."""

import json
from pathlib import Path

import pytest
import torch
import transformers as tf
from llava_parts import language_model, projector, save_clip, save_shards, save_tokenizer
from PIL import Image

from fivl_hf.cli.main import main
from fivl_hf.llava import assembling
from fivl_hf.llava.assembling import llama_tokenizer
from fivl_hf.llava.original import convert_llava
from fivl_hf.models import load_model, weights_fingerprint

VOCABULARY = 90


def save_original(folder: Path, *, tower=True, change=dict, config=()):
    """A folder as LLaVA's trainer leaves it; returns the weights.

    Args:
        tower: whether the vision tower's weights are in the checkpoint.
        change: is given the state dict before it is saved.
        config: more of the configuration.
    """
    vision = save_clip(folder / "clip")
    save_tokenizer(folder / "model")
    language = language_model(VOCABULARY)
    weights = {**language.state_dict(), **projector()}
    if tower:
        prefix = "model.vision_tower.vision_tower.vision_model."
        # Trained on: other weights than those of the tower that the config names.
        weights |= {prefix + name: value + 1 for name, value in vision.state_dict().items()}
    weights |= {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    weights = change(weights) or weights
    save_shards(folder / "model", weights)
    original = {
        **language.config.to_dict(),
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava_llama",
        "image_aspect_ratio": "pad",
        "mm_hidden_size": 16,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": str(folder / "clip"),
        "tokenizer_model_max_length": 2048,
        "torch_dtype": "float32",
        "tune_mm_mlp_adapter": False,
        "use_mm_proj": True,
        **dict(config),
    }
    (folder / "model" / "config.json").write_text(json.dumps(original))
    return weights


@pytest.mark.parametrize("model_type", ["llava_llama", "llava"])
@pytest.mark.parametrize("tower", [True, False])
def test_a_checkpoint_is_converted_with_all_its_weights(tmp_path, tower, model_type):
    weights = save_original(tmp_path, tower=tower, config={"model_type": model_type})
    convert_llava(tmp_path / "model", tmp_path / "out", dtype=torch.float32)
    model, processor = load_model(tmp_path / "out", device="cpu")
    assert type(model) is tf.LlavaForConditionalGeneration
    assert torch.equal(model.model.multi_modal_projector.linear_1.bias, weights["model.mm_projector.0.bias"])
    assert torch.equal(model.model.language_model.norm.weight, weights["model.norm.weight"])
    assert torch.equal(model.lm_head.weight[: len(weights["lm_head.weight"])], weights["lm_head.weight"])
    clip = tf.CLIPVisionModel.from_pretrained(tmp_path / "clip")
    bias = clip.state_dict()["encoder.layers.1.mlp.fc1.bias"]
    assert torch.equal(model.model.vision_tower.state_dict()["encoder.layers.1.mlp.fc1.bias"], bias + tower)
    assert processor.image_processor.do_pad
    assert model.config.vision_feature_layer == -2
    # What LLaVA's code computes: features of the last layer but one without CLS, two linear layers with GELU, in the
    # image's place among the embeddings of the text.
    assert model.config.image_token_id >= VOCABULARY, "the tokenizer gained it"
    image = Image.new("RGB", (60, 30), "red")
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(text=text, images=image, add_special_tokens=False, return_tensors="pt")
    assert inputs["input_ids"][0, 0] == processor.tokenizer.bos_token_id
    with torch.no_grad():
        if tower:
            clip.load_state_dict({name: value + 1 for name, value in clip.state_dict().items()})
        features = clip(inputs["pixel_values"], output_hidden_states=True).hidden_states[-2][:, 1:]
        hidden = features @ weights["model.mm_projector.0.weight"].T + weights["model.mm_projector.0.bias"]
        hidden = torch.nn.functional.gelu(hidden)
        hidden = hidden @ weights["model.mm_projector.2.weight"].T + weights["model.mm_projector.2.bias"]
        is_image = inputs["input_ids"] == model.config.image_token_id
        ids = inputs["input_ids"].masked_fill(is_image, 0)
        embeddings = torch.nn.functional.embedding(ids, weights["model.embed_tokens.weight"])
        embeddings[is_image] = hidden.flatten(0, 1)
        language = language_model(VOCABULARY)
        language.load_state_dict({n: w for n, w in weights.items() if n in language.state_dict()})
        expected = language.eval()(inputs_embeds=embeddings).logits
        ours = model(**inputs).logits[..., : expected.shape[-1]]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_converted_model_is_replaced_but_nothing_else(tmp_path):
    save_original(tmp_path)
    for _ in range(2):
        convert_llava(tmp_path / "model", tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not a model of fivl-hf"):
        convert_llava(tmp_path / "model", tmp_path / "other")


def test_converting_again_gives_the_same_weights(tmp_path):
    """The embeddings of new tokens, too: results are known by their weights."""
    save_original(tmp_path)
    for name in ("a", "b"):
        convert_llava(tmp_path / "model", tmp_path / name)
    assert weights_fingerprint(tmp_path / "a") == weights_fingerprint(tmp_path / "b")
    assert load_model(tmp_path / "a", device="cpu")[0].dtype == torch.float32, "as the checkpoint says"


def test_the_command_converts_for_evaluation_and_explanation(tmp_path, scenes_folder, capsys):
    save_original(tmp_path)
    assert main(["convert", str(tmp_path / "model"), str(tmp_path / "out"), "--dtype", "bfloat16"]) == 0
    assert f"the model is in {tmp_path / 'out'}" in capsys.readouterr().out
    for command in ("evaluate", "explain"):
        arguments = ["--model", str(tmp_path / "out"), "--dataset", str(scenes_folder), "--split", "test[:3]"]
        assert main([command, *arguments, "--output", str(tmp_path / command), "--dtype", "float32"]) == 0
    explanation = json.loads((tmp_path / "explain" / "explanation.json").read_text())
    assert explanation["n"] > 0


def test_what_reads_the_tokenizer_is_named_if_it_is_missing(tmp_path, monkeypatch):
    save_original(tmp_path)
    monkeypatch.setattr(assembling, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs sentencepiece and protobuf: `pip install fivl-hf\[llava\]`"):
        convert_llava(tmp_path / "model", tmp_path / "out")


def without(name):
    return lambda weights: {key: value for key, value in weights.items() if key != name}


def test_missing_and_additional_weights_are_named(tmp_path):
    cases = {
        "model.layers.1.mlp.up_proj.weight": without("model.layers.1.mlp.up_proj.weight"),
        "missing 2.bias; additional nothing": without("model.mm_projector.2.bias"),
        "additional model.image_newline": lambda weights: {**weights, "model.image_newline": torch.ones(32)},
        "additional 4.weight": lambda weights: {**weights, "model.mm_projector.4.weight": torch.ones(32, 32)},
        "of another shape model.norm.weight": lambda weights: {**weights, "model.norm.weight": torch.ones(31)},
        "missing embeddings.class_embedding": without(
            "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding"
        ),
        "does not fit": lambda weights: {**weights, "model.mm_projector.0.weight": torch.ones(32, 17)},
    }
    for number, (message, change) in enumerate(cases.items()):
        save_original(tmp_path / str(number), change=change)
        with pytest.raises(ValueError, match=message):
            convert_llava(tmp_path / str(number) / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_architectures_are_refused(tmp_path):
    save_original(tmp_path, config={"mm_projector_type": "linear"})
    with pytest.raises(ValueError, match="mm_projector_type is 'linear', but only LLaVA-1.5's 'mlp2x_gelu'"):
        convert_llava(tmp_path / "model", tmp_path / "out")
    save_original(tmp_path / "square", config={"image_aspect_ratio": "square"})
    with pytest.raises(ValueError, match="image_aspect_ratio is 'square', but only LLaVA-1.5's 'pad'"):
        convert_llava(tmp_path / "square" / "model", tmp_path / "out")
    save_original(tmp_path / "private", config={"mm_vision_tower": "/home/somebody/clip"})
    with pytest.raises(FileNotFoundError, match="no vision tower folder.*--vision names another place"):
        convert_llava(tmp_path / "private" / "model", tmp_path / "out")
    with pytest.raises(ValueError, match="names no mm_vision_tower"):
        convert_llava(tmp_path / "clip", tmp_path / "out")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{broken")
    with pytest.raises(ValueError, match="config.json is not valid JSON"):
        convert_llava(tmp_path / "broken", tmp_path / "out")
    with pytest.raises(ValueError, match="config.json is a file: give the model's folder, or a Hub id"):
        convert_llava(tmp_path / "broken" / "config.json", tmp_path / "out")
    with pytest.raises(ValueError, match="is the checkpoint itself: choose another folder"):
        convert_llava(tmp_path / "model", tmp_path / "model")
    (tmp_path / "square" / "model" / "tokenizer.model").unlink()
    with pytest.raises(FileNotFoundError, match="holds no tokenizer.model"):
        llama_tokenizer(tmp_path / "square" / "model")
    with pytest.raises(FileNotFoundError, match="not on this machine"):
        convert_llava("Intel/fivl-vm", tmp_path / "out")


def test_loading_such_a_checkpoint_says_how_to_convert_it(tmp_path):
    save_original(tmp_path)
    with pytest.raises(ValueError, match="fivl convert .*model FOLDER"):
        load_model(tmp_path / "model", device="cpu")
