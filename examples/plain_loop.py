"""Vision Modeling in a PyTorch loop of one's own, for any model: the collator's labels and a pure loss function.

python examples/plain_loop.py --model HuggingFaceTB/SmolVLM2-2.2B-Instruct --dataset org/fivl-instruct --output out

Weights and AdamW's state in float32: 16 bytes a parameter. The logits of all positions are held; FiVLTrainer does not.
"""

import argparse
from typing import Any

import torch
from datasets import load_dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import AutoModelForImageTextToText, AutoProcessor

from fivl_hf import vision_modeling_loss
from fivl_hf.training.collator import FiVLCollator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolVLM2-2.2B-Instruct", help="model folder or Hub id")
    parser.add_argument("--dataset", required=True, help="row dataset: folder or Hub id")
    parser.add_argument("--output", required=True, help="folder for what is trained")
    parser.add_argument("--max-steps", type=int, default=-1, help="number of steps")
    parser.add_argument("--cpu", action="store_true", help="try it in float32 on the CPU")
    options = parser.parse_args()

    device = "cpu" if options.cpu else "cuda"
    model: Any = AutoModelForImageTextToText.from_pretrained(options.model, dtype=torch.float32)
    model.to(device)
    processor = AutoProcessor.from_pretrained(options.model)
    collator = FiVLCollator(processor=processor, model_config=model.config, answers_only=True)
    rows = load_dataset(options.dataset, split="train")
    batches = DataLoader(rows, batch_size=4, shuffle=True, collate_fn=collator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    model.train()
    progress = tqdm(batches, total=min(options.max_steps, len(batches)) if options.max_steps > 0 else len(batches))
    for step, batch in enumerate(progress):
        if step == options.max_steps:
            break
        batch = batch.to(device)
        labels, vision_labels = batch.pop("labels"), batch.pop("vision_labels")
        with torch.autocast(device, dtype=torch.bfloat16, enabled=not options.cpu):
            logits = model(**batch).logits
        loss = vision_modeling_loss(logits, labels, vision_labels, vision_loss_weight=0.1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss.item():.3f}")
    model.save_pretrained(options.output)
    processor.save_pretrained(options.output)


if __name__ == "__main__":
    main()
