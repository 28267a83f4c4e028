"""An ordinary TRL vision script; two names changed turn it into FiVL training.

python examples/sft_to_fivl.py --model llava-hf/llava-1.5-7b-hf --dataset org/fivl-instruct --output out
"""

import argparse

from datasets import load_dataset

from fivl_hf import FiVLConfig, FiVLTrainer  # was: from trl import SFTConfig, SFTTrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder or Hub id")
    parser.add_argument("--dataset", required=True, help="row dataset: folder or Hub id")
    parser.add_argument("--output", required=True, help="folder for the trained model")
    parser.add_argument("--max-steps", type=int, default=-1, help="number of steps")
    parser.add_argument("--cpu", action="store_true", help="train in float32 on the CPU")
    options = parser.parse_args()

    dataset = load_dataset(options.dataset, split="train")
    config = FiVLConfig(  # was: SFTConfig(
        output_dir=options.output,
        vision_loss_weight=0.1,  # λ; the one new argument, and this is its default
        per_device_train_batch_size=4,
        learning_rate=2e-5,
        max_steps=options.max_steps,
        max_length=None,
        bf16=not options.cpu,
        use_cpu=options.cpu,
        report_to="none",
    )
    trainer = FiVLTrainer(model=options.model, args=config, train_dataset=dataset)  # was: SFTTrainer(
    trainer.train()
    trainer.save_model(options.output)


if __name__ == "__main__":
    main()
