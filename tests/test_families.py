"""Token boxes of model families against real (tiny, random) models of their classes; see token_probe."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image
from token_probe import element_coordinates, element_tokens
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from fivl_hf.geometry import UnknownProcessorError, token_boxes

TOKEN = 5
SIZES = [(230, 150), (97, 301), (640, 480), (50, 40), (400, 61)]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
VISION = {**SMALL, "image_size": 56, "patch_size": 7}
QWEN_ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}
QWEN_IDS = {"image_token_id": TOKEN, "vision_start_token_id": 6, "vision_end_token_id": 7, "video_token_id": 8}
PINPOINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
CELLS = {"height": 56, "width": 56}


def text(**options):
    ids = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return {**SMALL, "num_key_value_heads": 1, **ids, **options}


def qwen2():
    vision = {"depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 16, "mlp_ratio": 2}
    return tf.Qwen2VLForConditionalGeneration(
        tf.Qwen2VLConfig(text_config=text(**QWEN_ROPE), vision_config=vision, **QWEN_IDS)
    )


def qwen2_5():
    vision = {"depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 16}
    return tf.Qwen2_5_VLForConditionalGeneration(
        tf.Qwen2_5_VLConfig(
            text_config=text(**QWEN_ROPE), vision_config={**vision, "fullatt_block_indexes": [1]}, **QWEN_IDS
        )
    )


def qwen3():
    vision = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 16}
    more = {"deepstack_visual_indexes": [], "num_position_embeddings": 16}
    return tf.Qwen3VLForConditionalGeneration(
        tf.Qwen3VLConfig(text_config=text(**QWEN_ROPE, head_dim=8), vision_config={**vision, **more}, **QWEN_IDS)
    )


def internvl():
    vision = {**SMALL, "image_size": [56, 56], "patch_size": [7, 7]}
    return tf.InternVLForConditionalGeneration(
        tf.InternVLConfig(
            vision_config=vision, text_config=text(model_type="qwen2"), image_token_id=TOKEN, image_seq_length=16
        )
    )


def idefics3():
    return tf.Idefics3ForConditionalGeneration(
        tf.Idefics3Config(
            vision_config=VISION, text_config=text(model_type="llama"), image_token_id=TOKEN, scale_factor=2
        )
    )


def gemma3():
    return tf.Gemma3ForConditionalGeneration(
        tf.Gemma3Config(
            vision_config=VISION, text_config=text(head_dim=8), mm_tokens_per_image=16, image_token_index=TOKEN
        )
    )


def paligemma():
    vision = {**VISION, "model_type": "siglip_vision_model", "projection_dim": 16, "vocab_size": 64}
    return tf.PaliGemmaForConditionalGeneration(
        tf.PaliGemmaConfig(
            vision_config=vision,
            text_config=text(model_type="gemma", head_dim=8),
            image_token_index=TOKEN,
            projection_dim=16,
        )
    )


def llava_next():
    vision = {**VISION, "num_hidden_layers": 2, "model_type": "clip_vision_model", "projection_dim": 16}
    return tf.LlavaNextForConditionalGeneration(
        tf.LlavaNextConfig(
            vision_config=vision,
            text_config=text(model_type="llama"),
            image_token_index=TOKEN,
            image_grid_pinpoints=PINPOINTS,
            image_seq_length=64,
        )
    )


def mistral3():
    vision = {**VISION, "model_type": "pixtral", "head_dim": 8, "image_size": 210}
    return tf.Mistral3ForConditionalGeneration(
        tf.Mistral3Config(
            vision_config=vision,
            text_config=text(model_type="mistral", head_dim=8),
            image_token_index=TOKEN,
            spatial_merge_size=2,
            vision_feature_layer=-1,
        )
    )


def processor(name, image_processor, **fields):
    """What the geometry reads of a processor of this class; some cannot be made without torchvision."""
    return type(name, (SimpleNamespace,), {})(image_processor=image_processor, **fields)


def qwen_pixels(patch):
    return Qwen2VLImageProcessorPil(min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 60, patch_size=patch)


def gemma_pixels(crops):
    rule = {"min_crop_size": 32, "max_num_crops": 4, "min_ratio_to_activate": 1.2}
    return Gemma3ImageProcessorPil(
        size=CELLS, do_pan_and_scan=crops, **{f"pan_and_scan_{name}": value for name, value in rule.items()}
    )


FAMILIES = {
    "Qwen2-VL": (qwen2, processor("Qwen2VLProcessor", qwen_pixels(14))),
    "Qwen2.5-VL": (qwen2_5, processor("Qwen2_5_VLProcessor", qwen_pixels(14))),
    "Qwen3-VL": (qwen3, processor("Qwen3VLProcessor", qwen_pixels(16))),
    "InternVL": (
        internvl,
        processor(
            "InternVLProcessor",
            GotOcr2ImageProcessorPil(size=CELLS, crop_to_patches=True, min_patches=1, max_patches=6),
            image_seq_length=16,
        ),
    ),
    "Idefics3": (
        idefics3,
        processor(
            "Idefics3Processor",
            Idefics3ImageProcessorPil(size={"longest_edge": 168}, max_image_size={"longest_edge": 56}),
            image_seq_len=16,
        ),
    ),
    "Gemma 3": (gemma3, processor("Gemma3Processor", gemma_pixels(False), image_seq_length=16)),
    "Gemma 3, pan and scan": (gemma3, processor("Gemma3Processor", gemma_pixels(True), image_seq_length=16)),
    "PaliGemma": (
        paligemma,
        processor("PaliGemmaProcessor", tf.SiglipImageProcessorPil(size=CELLS), image_seq_length=64),
    ),
    "LLaVA-NeXT": (
        llava_next,
        processor(
            "LlavaNextProcessor",
            LlavaNextImageProcessorPil(size={"shortest_edge": 56}, crop_size=CELLS, image_grid_pinpoints=PINPOINTS),
            patch_size=7,
        ),
    ),
    "Mistral 3": (
        mistral3,
        processor(
            "PixtralProcessor",
            PixtralImageProcessorPil(size={"longest_edge": 200}, patch_size={"height": 14, "width": 14}),
            patch_size=7,
            spatial_merge_size=2,
        ),
    ),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", FAMILIES)
def test_boxes_are_what_the_model_sees(name, size):
    make, kind = FAMILIES[name]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    inputs = dict(kind.image_processor(picture, return_tensors="pt"))
    inputs.pop("num_crops", None)
    inputs.pop("num_patches", None)
    boxes = token_boxes(kind, size)
    ids = torch.tensor([[6, *[TOKEN] * len(boxes), 7]])
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "Qwen" in name:
        inputs["mm_token_type_ids"] = (ids == TOKEN).long()
    if "Gemma" in name:
        inputs["token_type_ids"] = (ids == TOKEN).long()
    tokens = element_tokens(make(), inputs, TOKEN).reshape(-1)
    x, y = (element_coordinates(kind.image_processor, size, axis).reshape(-1) for axis in (0, 1))
    errors = []
    for number, box in enumerate(boxes):
        mine = tokens == number
        seen = mine & np.isfinite(x)
        assert np.isnan(box[0]) == (not seen.any()), f"token {number}"
        if seen.any():
            errors += [abs(x[seen].mean() - (box[0] + box[2]) / 2), abs(y[seen].mean() - (box[1] + box[3]) / 2)]
            check_extent(x[seen], box[0], box[2])
            check_extent(y[seen], box[1], box[3])
    assert np.mean(errors) <= 0.15
    assert len(boxes) == int(np.nanmax(tokens)) + 1 + np.isnan(boxes[-1, 0])


def check_extent(seen, low, high):
    """The coordinates seen fill the box: half a step, or half a source pixel, is missing at either end."""
    step = (high - low) / len(np.unique(np.round(seen, 2)))
    tolerance = max(1.0, step)
    assert seen.min() == pytest.approx(low + step / 2, abs=tolerance)
    assert seen.max() == pytest.approx(high - step / 2, abs=tolerance)


def test_llava_next_with_another_crop_is_refused():
    image_processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 224}, crop_size=CELLS, image_grid_pinpoints=PINPOINTS
    )
    with pytest.raises(UnknownProcessorError, match="size .* and crop_size .* the same"):
        token_boxes(processor("LlavaNextProcessor", image_processor, patch_size=7), (100, 100))
