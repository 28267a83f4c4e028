"""LLaVA-1.5-7B with FiVL as in the paper: the second stage, one epoch, language model and projector, on 8 GPUs.

accelerate launch --config_file examples/accelerate/deepspeed_zero3.yaml examples/llava_paper.py \\
    --model llava-stage-1 --dataset org/fivl-instruct --output llava-fivl

llava-stage-1 is made by examples/llava_assemble.py. 128 samples a step: with fewer GPUs, accumulate. --lambda 0 trains
the baseline. Build the dataset with --protocol paper, too; docs/paper.md lists what is as in the paper's code.
"""

import argparse

import pyarrow.compute as pc
from datasets import Dataset, load_dataset
from transformers import LlavaForConditionalGeneration

from fivl_hf import FiVLConfig, FiVLTrainer


def with_lengths(rows: Dataset) -> Dataset:
    """Add the column that batches are grouped by: words, and LLaVA-1.5's 576 tokens for an image.

    Most batches so hold conversations with an image alone, or without; LLaVA's sampler keeps the two apart throughout.
    """
    words = [sum(len(message["content"].split()) for message in messages) for messages in rows["messages"]]
    images = pc.list_value_length(rows.data["images"]).to_pylist()
    return rows.add_column("length", [576 * count + number for count, number in zip(images, words, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llava-stage-1", help="model folder or Hub id")
    parser.add_argument("--dataset", required=True, help="row dataset: folder or Hub id")
    parser.add_argument("--output", required=True, help="folder for what is trained")
    parser.add_argument("--lambda", dest="vision_loss_weight", type=float, default=0.1, help="0 trains the baseline")
    parser.add_argument("--max-steps", type=int, default=-1, help="number of steps")
    parser.add_argument("--cpu", action="store_true", help="try it in float32 on the CPU")
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches of 16 per GPU and step")
    options = parser.parse_args()

    config = FiVLConfig(
        output_dir=options.output,
        vision_loss_weight=options.vision_loss_weight,
        vision_protocol="paper",
        num_train_epochs=1,
        max_steps=options.max_steps,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=options.accumulate,
        learning_rate=2e-5,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,  # a share of all steps
        weight_decay=0.0,
        max_length=2048,
        train_sampling_strategy="group_by_length",
        bf16=not options.cpu,
        tf32=None if options.cpu else True,  # as in LLaVA's script; CPUs have none
        use_cpu=options.cpu,
        gradient_checkpointing=True,
        save_steps=1000,
        save_total_limit=2,
        logging_steps=10,
        dataloader_num_workers=4,
        report_to="none",
    )
    model = LlavaForConditionalGeneration.from_pretrained(options.model, dtype="float32" if options.cpu else "bfloat16")
    model.model.vision_tower.requires_grad_(False)
    rows = with_lengths(load_dataset(options.dataset, split="train"))
    trainer = FiVLTrainer(model=model, args=config, train_dataset=rows)
    trainer.train()
    trainer.save_model(options.output)


if __name__ == "__main__":
    main()
