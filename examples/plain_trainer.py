"""Vision Modeling with ``transformers.Trainer`` alone: the model's own forward computes the loss.

python examples/plain_trainer.py --model llava-hf/llava-1.5-7b-hf --dataset org/fivl-instruct --output out
"""

import argparse

from datasets import load_dataset
from transformers import AutoProcessor, Trainer, TrainingArguments

from fivl_hf import FiVLLlavaForConditionalGeneration
from fivl_hf.training.callbacks import SetEpochCallback
from fivl_hf.training.collator import FiVLCollator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="LLaVA folder or Hub id")
    parser.add_argument("--dataset", required=True, help="row dataset: folder or Hub id")
    parser.add_argument("--output", required=True, help="folder for the trained model, a plain LLaVA checkpoint")
    parser.add_argument("--max-steps", type=int, default=-1, help="number of steps")
    parser.add_argument("--cpu", action="store_true", help="train on the CPU")
    options = parser.parse_args()

    model = FiVLLlavaForConditionalGeneration.from_pretrained(options.model, vision_loss_weight=0.1)
    processor = AutoProcessor.from_pretrained(options.model)
    collator = FiVLCollator(processor=processor, model_config=model.config, answers_only=True)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=options.output,
            per_device_train_batch_size=4,
            learning_rate=2e-5,
            max_steps=options.max_steps,
            remove_unused_columns=False,  # the collator reads the rows
            use_cpu=options.cpu,
            report_to="none",
        ),
        data_collator=collator,
        callbacks=[SetEpochCallback(collator)],  # each epoch draws its own nouns
        train_dataset=load_dataset(options.dataset, split="train"),
        processing_class=processor,
    )
    trainer.train()
    trainer.save_model(options.output)


if __name__ == "__main__":
    main()
