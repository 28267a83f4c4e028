"""LLaVA-1.5-7B with FiVL and LoRA on one GPU of 24 GB or more.

python examples/llava_lora.py --dataset org/fivl-instruct --output llava-fivl-lora
"""

import argparse

from datasets import load_dataset
from peft import LoraConfig

from fivl_hf import FiVLConfig, FiVLTrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llava-hf/llava-1.5-7b-hf", help="model folder or Hub id")
    parser.add_argument("--dataset", required=True, help="row dataset: folder or Hub id")
    parser.add_argument("--output", required=True, help="folder for what is trained")
    parser.add_argument("--max-steps", type=int, default=-1, help="number of steps")
    parser.add_argument("--cpu", action="store_true", help="try it in float32 on the CPU")
    options = parser.parse_args()

    config = FiVLConfig(
        output_dir=options.output,
        vision_loss_weight=0.1,
        num_train_epochs=1,
        max_steps=options.max_steps,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=32,
        learning_rate=2e-4,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,  # a share of all steps
        max_length=2048,
        model_init_kwargs={"dtype": "float32" if options.cpu else "bfloat16"},
        bf16=not options.cpu,
        use_cpu=options.cpu,
        gradient_checkpointing=True,
        logging_steps=10,
        dataloader_num_workers=4,
        report_to="none",
    )
    # The language model's layers; the head stays as it is, and learns to be read at image positions through them.
    layers = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
    lora = LoraConfig(
        r=128,
        lora_alpha=256,
        lora_dropout=0.05,
        target_modules=rf".*language_model.*\.({layers})",
        modules_to_save=["multi_modal_projector"],
        task_type="CAUSAL_LM",
    )
    trainer = FiVLTrainer(
        model=options.model,
        args=config,
        train_dataset=load_dataset(options.dataset, split="train"),
        peft_config=lora,
    )
    trainer.train()
    trainer.save_model(options.output)


if __name__ == "__main__":
    main()
