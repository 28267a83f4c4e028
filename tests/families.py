"""One tiny random model of the real classes per family, with a real processor around the scenes' tokenizer."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import transformers as tf
from PIL import Image
from tokenizers import AddedToken
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil  # noqa: F401
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil  # noqa: F401

from fivl_hf.images import image_bytes, open_image
from fivl_hf.masks import decode_mask, encode_mask
from fivl_hf.scenes.model import CHAT_TEMPLATE, scene_processor

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
CELLS = 8  # patches along a side
Token = Callable[[str], int]


@dataclass(frozen=True)
class Family:
    """How to make a family's processor and model, and the names of its special tokens."""

    processor: Callable[[Any, str, int], Any]
    model: Callable[[dict[str, Any], Token, int], Any]
    image: str = "<image>"
    """What the chat template writes for an image."""
    others: tuple[str, ...] = ()
    named: tuple[tuple[str, str], ...] = ()
    """Attributes of the tokenizer that its processor reads."""


def make(name: str, side: int = 56) -> tuple[Any, Any]:
    """A family's processor and model; ``side`` is that of a tile in processed pixels."""
    family = FAMILIES[name]
    tokenizer = deepcopy(scene_processor().tokenizer)
    tokens = [*family.others, *(token for _, token in family.named)]
    tokenizer.add_special_tokens(
        {"extra_special_tokens": [AddedToken(t, special=True) for t in tokens if t != "<image>"]}
    )
    for attribute, token in family.named:
        tokenizer.init_kwargs[attribute] = token
        setattr(tokenizer, attribute, token)
        setattr(tokenizer, f"{attribute}_id", tokenizer.convert_tokens_to_ids(token))
    processor = family.processor(tokenizer, CHAT_TEMPLATE.replace("<image>", family.image), side)
    text = {
        **SMALL,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    tf.set_seed(0)
    model = family.model(text, tokenizer.convert_tokens_to_ids, side)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return processor, model


def on_torchvision(processor: Any) -> Any:
    """The processor with its image processor in the version that is used where torchvision is installed."""
    pil = processor.image_processor
    settings = {name: value for name, value in pil.to_dict().items() if name not in ("image_processor_type", "backend")}
    processor.image_processor = getattr(tf, type(pil).__name__.removesuffix("Pil"))(**settings)
    return processor


def perceiver() -> tuple[Any, Any]:
    """Idefics2's processor and model, which reads the whole image into a few tokens."""
    tokenizer = make("Idefics3")[0].tokenizer
    tokenizer.image_boundary_token = "<fake_token_around_image>"
    tokenizer.image_boundary_token_id = tokenizer.convert_tokens_to_ids("<fake_token_around_image>")
    pixels = tf.Idefics2ImageProcessorPil(size={"shortest_edge": 30, "longest_edge": 60}, do_image_splitting=False)
    processor = tf.Idefics2Processor(pixels, tokenizer, image_seq_len=4, chat_template=CHAT_TEMPLATE)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = tf.Idefics2Config(
        vision_config={**small, "num_hidden_layers": 1, "image_size": 56, "patch_size": 7},
        perceiver_config={
            "hidden_size": 16,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 8,
            "num_key_value_heads": 1,
        },
        text_config={
            **small,
            **ids,
            "model_type": "mistral",
            "num_hidden_layers": 1,
            "num_key_value_heads": 1,
            "vocab_size": len(tokenizer),
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return processor, tf.Idefics2ForConditionalGeneration(config)


def save(name: str, folder: str) -> None:
    """A family's model and processor as a folder to load by name."""
    processor, model = make(name)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def enlarge(model: Any) -> None:
    """Small random weights attend and answer evenly; larger ones differ, and meet a softcap."""
    with torch.no_grad():
        for parameter in model.get_decoder().parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)


def large_rows(rows: list[dict[str, Any]], factor: int = 3) -> list[dict[str, Any]]:
    """Rows of scenes, their images enlarged: families with large cells need more than 40 pixels."""
    return [_enlarged(row, factor) for row in rows]


def _enlarged(row: dict[str, Any], factor: int) -> dict[str, Any]:
    image = open_image(row["images"][0])
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    masks = [decode_mask(mask).repeat(factor, 0).repeat(factor, 1) for mask in row["masks"]]
    expressions = [
        {**expression, "boxes": [[factor * x for x in box] for box in expression["boxes"]]}
        for expression in row["key_expressions"]
    ]
    return {
        **row,
        "images": [{"bytes": image_bytes(image), "path": None}],
        "masks": [{"bytes": encode_mask(mask), "path": None} for mask in masks],
        "key_expressions": expressions,
    }


def _vision(side: int) -> dict[str, Any]:
    return {**SMALL, "image_size": side, "patch_size": side // CELLS}


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _pinpoints(side: int) -> list[list[int]]:
    """(height, width) of canvases of up to three tiles, and of four."""
    return [[side * rows, side * columns] for rows, columns in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]


def _llava_processor(pad: bool) -> Callable[[Any, str, int], Any]:
    def make_processor(tokenizer: Any, template: str, side: int) -> Any:
        pixels = (
            LlavaImageProcessorPil(size={"shortest_edge": side}, crop_size=_square(side), do_pad=True)
            if pad
            else tf.CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=_square(side))
        )
        return tf.LlavaProcessor(
            pixels, tokenizer, side // CELLS, "default", chat_template=template, num_additional_image_tokens=1
        )

    return make_processor


def _clip_vision(side: int) -> dict[str, Any]:
    return {**_vision(side), "model_type": "clip_vision_model", "projection_dim": 16}


def _llava(text: dict[str, Any], token: Token, side: int) -> Any:
    return tf.LlavaForConditionalGeneration(
        tf.LlavaConfig(
            vision_config=_clip_vision(side),
            text_config={**text, "model_type": "llama"},
            image_token_index=token("<image>"),
            image_seq_length=64,
        )
    )


def _next_processor(tokenizer: Any, template: str, side: int) -> Any:
    pixels = LlavaNextImageProcessorPil(
        size={"shortest_edge": side}, crop_size=_square(side), image_grid_pinpoints=_pinpoints(side)
    )
    return tf.LlavaNextProcessor(
        pixels, tokenizer, side // CELLS, "default", chat_template=template, num_additional_image_tokens=1
    )


def _next(text: dict[str, Any], token: Token, side: int) -> Any:
    return tf.LlavaNextForConditionalGeneration(
        tf.LlavaNextConfig(
            vision_config=_clip_vision(side),
            text_config={**text, "model_type": "llama"},
            image_token_index=token("<image>"),
            image_grid_pinpoints=_pinpoints(side),
            image_seq_length=64,
        )
    )


def _onevision_processor(tokenizer: Any, template: str, side: int) -> Any:
    # Two pixels that no patch sees; two tiles' worth of tokens at most, so that grids shrink.
    side += 2
    pixels = LlavaOnevisionImageProcessorPil(size=_square(side), image_grid_pinpoints=_onevision_pinpoints(side))
    return tf.LlavaOnevisionProcessor(
        pixels,
        tokenizer,
        tf.LlavaOnevisionVideoProcessor(),
        num_image_tokens=64,
        vision_feature_select_strategy="full",
        chat_template=template,
        vision_aspect_ratio="anyres_max_2",
    )


def _onevision_pinpoints(side: int) -> list[list[int]]:
    return [[side * rows, side * columns] for rows in (1, 2, 3) for columns in (1, 2, 3)]


def _onevision(text: dict[str, Any], token: Token, side: int) -> Any:
    return tf.LlavaOnevisionForConditionalGeneration(
        tf.LlavaOnevisionConfig(
            vision_config={
                **_vision(side),
                "image_size": side + 2,
                "model_type": "siglip_vision_model",
                "vision_use_head": False,
            },
            text_config={**text, "model_type": "qwen2"},
            image_token_index=token("<image>"),
            video_token_index=token("<video>"),
            image_grid_pinpoints=_onevision_pinpoints(side + 2),
            vision_aspect_ratio="anyres_max_2",
        )
    )


def _qwen_processor(kind: Any, patch: int, video: Any = tf.Qwen2VLVideoProcessor) -> Callable[[Any, str, int], Any]:
    def make_processor(tokenizer: Any, template: str, side: int) -> Any:
        pixels = Qwen2VLImageProcessorPil(min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 60, patch_size=patch)
        return kind(pixels, tokenizer, video(), template)

    return make_processor


def _qwen_ids(token: Callable[[str], int]) -> dict[str, int]:
    return {
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
    }


QWEN_ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}


def _qwen2(text: dict[str, Any], token: Token, side: int) -> Any:
    vision = {"depth": 2, "embed_dim": 16, "num_heads": 2, "hidden_size": 16, "mlp_ratio": 2}
    text = {k: v for k, v in text.items() if k != "head_dim"}
    config = tf.Qwen2VLConfig(text_config={**text, **QWEN_ROPE}, vision_config=vision, **_qwen_ids(token))
    return tf.Qwen2VLForConditionalGeneration(config)


def _qwen2_5(text: dict[str, Any], token: Token, side: int) -> Any:
    vision = {"depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 16}
    text = {k: v for k, v in text.items() if k != "head_dim"}
    vision["fullatt_block_indexes"] = [1]
    config = tf.Qwen2_5_VLConfig(text_config={**text, **QWEN_ROPE}, vision_config=vision, **_qwen_ids(token))
    return tf.Qwen2_5_VLForConditionalGeneration(config)


def _qwen3(text: dict[str, Any], token: Token, side: int) -> Any:
    vision = {"depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 16}
    vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    config = tf.Qwen3VLConfig(text_config={**text, **QWEN_ROPE}, vision_config=vision, **_qwen_ids(token))
    return tf.Qwen3VLForConditionalGeneration(config)


def _qwen3_moe(text: dict[str, Any], token: Token, side: int) -> Any:
    vision = {"depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 16}
    vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "router_aux_loss_coef": 0.1}
    config = tf.Qwen3VLMoeConfig(text_config={**text, **QWEN_ROPE, **experts}, vision_config=vision, **_qwen_ids(token))
    return tf.Qwen3VLMoeForConditionalGeneration(config)


def _internvl_processor(tokenizer: Any, template: str, side: int) -> Any:
    pixels = GotOcr2ImageProcessorPil(size=_square(side), crop_to_patches=True, min_patches=1, max_patches=6)
    return tf.InternVLProcessor(
        pixels, tokenizer, tf.InternVLVideoProcessor(), image_seq_length=16, chat_template=template
    )


def _internvl(text: dict[str, Any], token: Token, side: int) -> Any:
    text = {k: v for k, v in text.items() if k != "head_dim"}
    return tf.InternVLForConditionalGeneration(
        tf.InternVLConfig(
            vision_config={**SMALL, "image_size": [side, side], "patch_size": [side // CELLS] * 2},
            text_config={**text, "model_type": "qwen2"},
            image_token_id=token("<IMG_CONTEXT>"),
            image_seq_length=16,
        )
    )


def _idefics_processor(name: str) -> Callable[[Any, str, int], Any]:
    def make_processor(tokenizer: Any, template: str, side: int) -> Any:
        kind, pixels = getattr(tf, f"{name}Processor"), globals()[f"{name}ImageProcessorPil"]
        image_processor = pixels(size={"longest_edge": 3 * side}, max_image_size={"longest_edge": side})
        more = {"video_processor": tf.SmolVLMVideoProcessor()} if name == "SmolVLM" else {}
        return kind(image_processor, tokenizer, image_seq_len=16, chat_template=template, **more)

    return make_processor


def _idefics(name: str) -> Callable[[dict[str, Any], Token, int], Any]:
    def make_model(text: dict[str, Any], token: Token, side: int) -> Any:
        config = getattr(tf, f"{name}Config")(
            vision_config=_vision(side),
            text_config={**text, "model_type": "llama"},
            image_token_id=token("<image>"),
            scale_factor=2,
        )
        return getattr(tf, f"{name}ForConditionalGeneration")(config)

    return make_model


def _gemma3_processor(crops: bool) -> Callable[[Any, str, int], Any]:
    def make_processor(tokenizer: Any, template: str, side: int) -> Any:
        processor = tf.Gemma3Processor(Gemma3ImageProcessorPil(size=_square(side)), tokenizer, template, 16)
        # The processor's own defaults have precedence over the image processor's.
        rule = {"do_pan_and_scan": crops, "pan_and_scan_min_crop_size": 32}
        processor.images_kwargs = {**processor.images_kwargs, **rule}
        return processor

    return make_processor


def _gemma3(text: dict[str, Any], token: Token, side: int) -> Any:
    return tf.Gemma3ForConditionalGeneration(
        tf.Gemma3Config(
            vision_config=_vision(side),
            text_config={**text, "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]},
            mm_tokens_per_image=16,
            image_token_index=token("<image_soft_token>"),
            boi_token_index=token("<start_of_image>"),
            eoi_token_index=token("<end_of_image>"),
        )
    )


def _paligemma_processor(tokenizer: Any, template: str, side: int) -> Any:
    pixels = tf.SiglipImageProcessorPil(size=_square(side))
    pixels.image_seq_length = 64
    return tf.PaliGemmaProcessor(pixels, tokenizer, template)


def _paligemma2(text: dict[str, Any], token: Token, side: int) -> Any:
    capped = {"model_type": "gemma2", "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}
    return _paligemma({**text, **capped, "query_pre_attn_scalar": 1, "sliding_window": 24}, token, side)


def _paligemma(text: dict[str, Any], token: Token, side: int) -> Any:
    vision = {**_vision(side), "model_type": "siglip_vision_model", "projection_dim": 16, "vocab_size": 64}
    return tf.PaliGemmaForConditionalGeneration(
        tf.PaliGemmaConfig(
            vision_config=vision,
            text_config={"model_type": "gemma", **text, "vocab_size": text["vocab_size"] + 1100},
            image_token_index=token("<image>"),
            projection_dim=16,
        )
    )


def _pixtral_processor(merge: int) -> Callable[[Any, str, int], Any]:
    def make_processor(tokenizer: Any, template: str, side: int) -> Any:
        patch = side // CELLS
        pixels = PixtralImageProcessorPil(
            size={"longest_edge": 2 * merge * side - 3}, patch_size=_square(merge * patch)
        )
        return tf.PixtralProcessor(pixels, tokenizer, patch, merge, template)

    return make_processor


def _mistral3(text: dict[str, Any], token: Token, side: int) -> Any:
    return tf.Mistral3ForConditionalGeneration(
        tf.Mistral3Config(
            vision_config={**_vision(side), "model_type": "pixtral", "head_dim": 8, "image_size": 4 * side},
            text_config={**text, "model_type": "mistral"},
            image_token_index=token("[IMG]"),
            spatial_merge_size=2,
            vision_feature_layer=-1,
        )
    )


def _pixtral(text: dict[str, Any], token: Token, side: int) -> Any:
    return tf.LlavaForConditionalGeneration(
        tf.LlavaConfig(
            vision_config={**_vision(side), "model_type": "pixtral", "head_dim": 8, "image_size": 2 * side},
            text_config={**text, "model_type": "mistral"},
            image_token_index=token("[IMG]"),
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        )
    )


def _mllama_processor(tokenizer: Any, template: str, side: int) -> Any:
    pixels = MllamaImageProcessorPil(size=_square(side), max_image_tiles=4)
    processor = tf.MllamaProcessor(pixels, tokenizer, template)
    processor.patch_size = side // CELLS
    return processor


def _mllama(text: dict[str, Any], token: Token, side: int) -> Any:
    text = {k: v for k, v in text.items() if k != "head_dim"}
    return tf.MllamaForConditionalGeneration(
        tf.MllamaConfig(
            vision_config={
                **{k: v for k, v in _vision(side).items() if k != "num_attention_heads"},
                "attention_heads": 2,
                "num_global_layers": 1,
                "vision_output_dim": 32,
                "intermediate_layers_indices": [0],
                "max_num_tiles": 4,
                "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
            },
            text_config={**text, "num_hidden_layers": 4, "cross_attention_layers": [1, 3]},
            image_token_index=token("<|image|>"),
        )
    )


def _aya_processor(tokenizer: Any, template: str, side: int) -> Any:
    pixels = GotOcr2ImageProcessorPil(size=_square(side), crop_to_patches=True, min_patches=1, max_patches=4)
    return tf.AyaVisionProcessor(
        pixels,
        tokenizer,
        patch_size=side // CELLS,
        img_size=side,
        downsample_factor=2,
        chat_template=template,
        start_of_img_token="<img>",
        end_of_img_token="</img>",
        img_patch_token="<IMG_CONTEXT>",
    )


def _aya(text: dict[str, Any], token: Token, side: int) -> Any:
    return tf.AyaVisionForConditionalGeneration(
        tf.AyaVisionConfig(
            vision_config={**_vision(side), "model_type": "siglip_vision_model"},
            # TRL's fused head applies Cohere's logit_scale, this model's own forward (transformers 5.23) does not.
            text_config={**text, "model_type": "cohere2", "logit_scale": 1.0},
            image_token_index=token("<IMG_CONTEXT>"),
        )
    )


_QWEN = {
    "image": "<|vision_start|><|image_pad|><|vision_end|>",
    "others": ("<|video_pad|>", "<|vision_start|>", "<|vision_end|>"),
    "named": (("image_token", "<|image_pad|>"),),
}
_PIXTRAL = {"image": "[IMG]", "others": ("[IMG]", "[IMG_BREAK]", "[IMG_END]")}
_IDEFICS = {
    "others": (
        "<fake_token_around_image>",
        "<end_of_utterance>",
        "<global-img>",
        *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    )
}
_GEMMA: dict[str, Any] = {
    "image": "<start_of_image>",
    "named": (
        ("boi_token", "<start_of_image>"),
        ("eoi_token", "<end_of_image>"),
        ("image_token", "<image_soft_token>"),
    ),
}

FAMILIES: dict[str, Family] = {
    "LLaVA-1.5, crop": Family(_llava_processor(False), _llava),
    "LLaVA-1.5, pad": Family(_llava_processor(True), _llava),
    "LLaVA-NeXT": Family(_next_processor, _next),
    "LLaVA-OneVision": Family(_onevision_processor, _onevision, others=("<video>",)),
    "Qwen2-VL": Family(_qwen_processor(tf.Qwen2VLProcessor, 14), _qwen2, **_QWEN),
    "Qwen2.5-VL": Family(_qwen_processor(tf.Qwen2_5_VLProcessor, 14), _qwen2_5, **_QWEN),
    "Qwen3-VL": Family(_qwen_processor(tf.Qwen3VLProcessor, 16, tf.Qwen3VLVideoProcessor), _qwen3, **_QWEN),
    "Qwen3-VL, mixture of experts": Family(
        _qwen_processor(tf.Qwen3VLProcessor, 16, tf.Qwen3VLVideoProcessor), _qwen3_moe, **_QWEN
    ),
    "Idefics3": Family(_idefics_processor("Idefics3"), _idefics("Idefics3"), **_IDEFICS),
    "SmolVLM": Family(_idefics_processor("SmolVLM"), _idefics("SmolVLM"), **_IDEFICS),
    "InternVL": Family(
        _internvl_processor,
        _internvl,
        image="<IMG_CONTEXT>",
        named=(
            ("start_image_token", "<img>"),
            ("end_image_token", "</img>"),
            ("context_image_token", "<IMG_CONTEXT>"),
            ("video_token", "<video>"),
        ),
    ),
    "Gemma 3": Family(_gemma3_processor(False), _gemma3, **_GEMMA),
    "Gemma 3, pan and scan": Family(_gemma3_processor(True), _gemma3, **_GEMMA),
    "PaliGemma": Family(_paligemma_processor, _paligemma),
    "PaliGemma 2": Family(_paligemma_processor, _paligemma2),
    "Pixtral": Family(_pixtral_processor(1), _pixtral, **_PIXTRAL),
    "Mistral 3": Family(_pixtral_processor(2), _mistral3, **_PIXTRAL),
    # Nobody has described this one: its boxes are probed.
    "Aya Vision": Family(_aya_processor, _aya, others=("<img>", "</img>", "<IMG_CONTEXT>")),
    "Mllama": Family(
        _mllama_processor, _mllama, image="<|image|>", others=("<|python_tag|>",), named=(("image_token", "<|image|>"),)
    ),
}
