"""LLaVA-1.5 before its second stage: a language model, a vision tower and the pretrained projector become one folder.

python examples/llava_assemble.py --projector mm_projector.bin --output llava-stage-1

mm_projector.bin is that of liuhaotian/llava-v1.5-mlp2x-336px-pretrain-vicuna-7b-v1.5. Needs no GPU,
but `pip install fivl-hf[llava]`.
"""

import argparse

import torch
from transformers import CLIPVisionModel, LlamaForCausalLM

from fivl_hf.llava.assembling import assemble_llava, llama_tokenizer, projector_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language", default="lmsys/vicuna-7b-v1.5", help="language model: folder or Hub id")
    parser.add_argument("--vision", default="openai/clip-vit-large-patch14-336", help="CLIP: folder or Hub id")
    parser.add_argument("--projector", required=True, help="mm_projector.bin of the first stage")
    parser.add_argument("--output", required=True, help="folder for the model")
    options = parser.parse_args()

    weights = torch.load(options.projector, map_location="cpu", weights_only=True)
    projector = projector_weights(weights, options.projector)
    tokenizer = llama_tokenizer(options.language)
    language = LlamaForCausalLM.from_pretrained(options.language, dtype=torch.bfloat16)
    vision = CLIPVisionModel.from_pretrained(options.vision, dtype=torch.bfloat16)
    assemble_llava(language, tokenizer, vision, projector, options.output)


if __name__ == "__main__":
    main()
