"""Detectors and segmenters of the real classes with random weights, saved as folders: for tests and benchmarks."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    SamConfig,
    SamImageProcessorPil,
    SamModel,
    SamProcessor,
    SwinConfig,
)

_DECODER = {"mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "iou_head_hidden_dim": 16}

__all__ = ["save_grounding_dino", "save_sam", "save_sam2", "save_sam3"]


def save_grounding_dino(folder: Path, *, mm: bool = False, size: int = 64, width: int = 32, queries: int = 12) -> Path:
    """Save a Grounding DINO (or MM Grounding DINO), shortest edge ``size`` pixels; scores spread around 0.5."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    text = BertConfig(
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * width,
        vocab_size=len(tokenizer),
        max_position_embeddings=256,
    )
    backbone: dict[str, Any] = {
        "embed_dim": 16,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 2, 2],
        "window_size": 4,
        "out_features": ["stage2", "stage3", "stage4"],
    }
    settings: dict[str, Any] = {
        "backbone_config": SwinConfig(**backbone),
        "text_config": text,
        "d_model": width,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 2 * width,
        "decoder_ffn_dim": 2 * width,
        "num_queries": queries,
        "num_feature_levels": 4,
    }
    model: Any = (
        MMGroundingDinoForObjectDetection(MMGroundingDinoConfig(**settings))
        if mm
        else GroundingDinoForObjectDetection(GroundingDinoConfig(**settings))
    )
    _spread(model)
    model.save_pretrained(folder)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": size, "longest_edge": 2 * size})
    GroundingDinoProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def save_sam(folder: Path, *, size: int = 64, width: int = 32, layers: int = 2) -> Path:
    """Save a SAM for images of ``size`` pixels."""
    torch.manual_seed(1)
    config = SamConfig(
        vision_config={
            "hidden_size": width,
            "output_channels": 16,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "image_size": size,
            "patch_size": 8,
            "mlp_dim": 2 * width,
            "window_size": 4,
            "global_attn_indexes": [layers - 1],
            "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16,
            "image_size": size,
            "patch_size": 8,
            "mask_input_channels": 4,
        },
        mask_decoder_config={**_DECODER, "hidden_size": 16},
    )
    model = SamModel(config)
    _spread(model)
    model.save_pretrained(folder)
    edge = {"longest_edge": size}
    square = {"height": size, "width": size}
    processor = SamProcessor(SamImageProcessorPil(size=edge, pad_size=square, mask_size=edge, mask_pad_size=square))
    processor.save_pretrained(folder)
    return folder


def save_sam2(folder: Path) -> Path:
    """Save a SAM 2 for images of 128 pixels; its processor needs torchvision."""
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2ImageProcessor, Sam2Model, Sam2Processor

    torch.manual_seed(3)
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[128, 128],
        blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[4, 2, 4, 2],
        global_attention_blocks=[4],
        window_positional_embedding_background_size=[4, 4],
    )
    config = Sam2Config(
        vision_config={
            "backbone_config": backbone,
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 16,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 128, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={**_DECODER, "hidden_size": 16},
    )
    Sam2Model(config).save_pretrained(folder)
    square = {"height": 128, "width": 128}
    processor = Sam2ImageProcessor(size=square, mask_size={"height": 32, "width": 32})
    Sam2Processor(processor).save_pretrained(folder)
    return folder


def save_sam3(folder: Path) -> Path:
    """Save a SAM 3 for images of 112 pixels; its processor needs torchvision."""
    from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

    torch.manual_seed(4)
    width = 16
    layers = {"hidden_size": width, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 112,
        "patch_size": 14,
        "window_size": 4,
        "global_attn_indexes": [1],
        "pretrain_image_size": 112,
    }
    sizes = [[32, 32], [16, 16], [8, 8]]
    config = Sam3Config(
        vision_config={"backbone_config": backbone, "fpn_hidden_size": width, "backbone_feature_sizes": sizes},
        text_config={
            "hidden_size": width,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "vocab_size": 100,
            "max_position_embeddings": 32,
            "projection_dim": width,
        },
        geometry_encoder_config=layers,
        detr_encoder_config=layers,
        detr_decoder_config={**layers, "num_queries": 6},
        mask_decoder_config={"hidden_size": width, "num_attention_heads": 2},
    )
    model = Sam3Model(config)
    _spread(model)
    model.save_pretrained(folder)
    processor = Sam3ImageProcessor(size={"height": 112, "width": 112})
    Sam3Processor(processor, _tokenizer()).save_pretrained(folder)
    return folder


def _spread(model: torch.nn.Module) -> None:
    """Freshly made models say the same everywhere; larger random weights make them differ from place to place."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("class_embed.bias") or parameter.dim() == 0:
                parameter.zero_()
            elif parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 1.2 / parameter.shape[-1] ** 0.5)


def _tokenizer() -> Any:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?"]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [str(d) for d in range(10)]
    vocabulary = {piece: i for i, piece in enumerate([*words, *letters, *(f"##{letter}" for letter in letters)])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    return BertTokenizer(tokenizer_object=tokenizer, model_max_length=256)
