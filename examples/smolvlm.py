"""SmolVLM2-2.2B with FiVL, all of the language model, on one GPU of 40 GB or more. Needs `pip install num2words`.

python examples/smolvlm.py --dataset org/fivl-instruct --output smolvlm-fivl
"""

import argparse

from datasets import load_dataset
from transformers import AutoModelForImageTextToText, AutoProcessor

from fivl_hf import FiVLConfig, FiVLTrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolVLM2-2.2B-Instruct", help="model folder or Hub id")
    parser.add_argument("--dataset", required=True, help="row dataset: folder or Hub id")
    parser.add_argument("--output", required=True, help="folder for what is trained")
    parser.add_argument("--max-steps", type=int, default=-1, help="number of steps")
    parser.add_argument("--cpu", action="store_true", help="try it in float32 on the CPU")
    options = parser.parse_args()

    # Images are seen whole and in tiles; each side is first resized to two tiles at most.
    processor = AutoProcessor.from_pretrained(options.model)
    tile = processor.image_processor.max_image_size["longest_edge"]
    processor.image_processor.size = {"longest_edge": 2 * tile}
    model = AutoModelForImageTextToText.from_pretrained(options.model, dtype="float32" if options.cpu else "bfloat16")
    model.model.vision_model.requires_grad_(False)
    config = FiVLConfig(
        output_dir=options.output,
        vision_loss_weight=0.1,
        num_train_epochs=1,
        max_steps=options.max_steps,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=8,
        learning_rate=2e-5,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,  # a share of all steps
        max_length=None,  # image tokens must not be cut
        bf16=not options.cpu,
        use_cpu=options.cpu,
        gradient_checkpointing=True,
        logging_steps=10,
        dataloader_num_workers=4,
        report_to="none",
    )
    trainer = FiVLTrainer(
        model=model,
        args=config,
        train_dataset=load_dataset(options.dataset, split="train"),
        processing_class=processor,
    )
    trainer.train()
    trainer.save_model(options.output)


if __name__ == "__main__":
    main()
