"""LLaVA-1.5 before its second stage: a language model, a vision tower and the pretrained projector become one folder.

python examples/llava_assemble.py --projector mm_projector.bin --output llava-stage-1

mm_projector.bin is that of liuhaotian/llava-v1.5-mlp2x-336px-pretrain-vicuna-7b-v1.5. Needs torchvision, but no GPU.
"""

import argparse
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessor,
    LlavaProcessor,
)

CHAT_TEMPLATE = (  # Vicuna's
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. {% for message in messages %}"
    "{{ 'USER: ' if message['role'] == 'user' else ' ASSISTANT: ' }}{% for block in message['content'] %}"
    "{% if block['type'] == 'image' %}<image>\n{% endif %}{% endfor %}{% for block in message['content'] %}"
    "{% if block['type'] == 'text' %}{{ block['text'] }}{% endif %}{% endfor %}{% if message['role'] == 'assistant' %}"
    "</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language", default="lmsys/vicuna-7b-v1.5", help="language model: folder or Hub id")
    parser.add_argument("--vision", default="openai/clip-vit-large-patch14-336", help="CLIP: folder or Hub id")
    parser.add_argument("--projector", required=True, help="mm_projector.bin of the first stage")
    parser.add_argument("--output", required=True, help="folder for the model")
    options = parser.parse_args()

    tokenizer: Any = AutoTokenizer.from_pretrained(options.language)
    tokenizer.add_tokens(["<image>", "<pad>"], special_tokens=True)
    tokenizer.pad_token = "<pad>"
    language = AutoModelForCausalLM.from_pretrained(options.language, dtype=torch.bfloat16)
    language.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    language.config.pad_token_id = tokenizer.pad_token_id
    vision: Any = CLIPVisionModel.from_pretrained(options.vision, dtype=torch.bfloat16)

    config = LlavaConfig(
        vision_config=vision.config.to_dict(),
        text_config=language.config.to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(vision.config.image_size // vision.config.patch_size) ** 2,
    )
    model: Any = LlavaForConditionalGeneration(config)
    model.to(torch.bfloat16)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    model.model.vision_tower.load_state_dict(vision.state_dict())
    weights = torch.load(options.projector, map_location="cpu", weights_only=True)
    names = {"0": "linear_1", "2": "linear_2"}  # a linear layer, GELU, a linear layer
    projector = {f"{names[name.split('.')[-2]]}.{name.split('.')[-1]}": value for name, value in weights.items()}
    model.model.multi_modal_projector.load_state_dict(projector)
    model.save_pretrained(options.output)

    # CLIP's own processor crops to the middle of an image; LLaVA-1.5 was trained on images padded to a square.
    side = vision.config.image_size
    sizes: dict[str, Any] = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    tokenizer.model_max_length = 2048
    processor = LlavaProcessor(
        LlavaImageProcessor(**sizes, do_pad=True),
        tokenizer,
        patch_size=vision.config.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(options.output)


if __name__ == "__main__":
    main()
