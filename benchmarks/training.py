"""A training step of FiVLTrainer against SFTTrainer's and against the paper's way; head analysis of one sample.

python benchmarks/training.py            # a GPU's worth of LLaVA-1.5-7B where there is one, a small model elsewhere
python benchmarks/training.py --size small --batch 4

LLaVA-1.5-7B's shapes with random weights, bfloat16, LoRA, gradient checkpointing, 576 image and 224 text tokens. Aims:
FiVLTrainer's time and memory at most 1.02 of SFTTrainer's; its memory above the model at most 0.6 of the paper's way
(logits of all positions in float32, then two cross-entropies). Each variant runs in processes of its own, in turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from memory import Memory
from table import publish

TEXT_TOKENS = 224
# Sizes of the language model and of CLIP's tower, and the image's side with its patches'.
SIZES: dict[str, dict[str, Any]] = {
    "7b": {
        "hidden": 4096,
        "layers": 32,
        "heads": 32,
        "inner": 11008,
        "vision": (1024, 24, 16, 4096),
        "image": (336, 14),
    },
    "small": {"hidden": 256, "layers": 4, "heads": 4, "inner": 688, "vision": (64, 2, 2, 128), "image": (336, 14)},
}
VOCABULARY, IMAGE_TOKEN = 32_064, 32_000
VARIANTS = ("sft", "fivl", "paper")


def llava(size: str, device: str, dtype: torch.dtype) -> Any:
    """LLaVA of a size, random weights made on the device."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    shape = SIZES[size]
    hidden, layers, heads, inner = shape["vision"]
    side, patch = shape["image"]
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=inner,
            image_size=side,
            patch_size=patch,
        ),
        text_config=LlamaConfig(
            hidden_size=shape["hidden"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            num_key_value_heads=shape["heads"],
            intermediate_size=shape["inner"],
            vocab_size=VOCABULARY,
            max_position_embeddings=4096,
        ),
        image_token_index=IMAGE_TOKEN,
        image_seq_length=(side // patch) ** 2,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = LlavaForConditionalGeneration(config)
    torch.set_default_dtype(before)
    return model


def random_batch(model: Any, batch: int, device: str) -> dict[str, torch.Tensor]:
    """Make a batch as the collator does: an image, a question, and an answer of which half of the tokens count."""
    side = model.config.vision_config.image_size
    image_tokens = model.config.image_seq_length
    length = image_tokens + TEXT_TOKENS
    ids = torch.randint(5, 31_000, (batch, length))
    ids[:, 4 : 4 + image_tokens] = IMAGE_TOKEN
    labels = ids.clone()
    labels[:, : length - TEXT_TOKENS // 2] = -100
    vision = torch.full_like(ids, -100)
    vision[:, 4 : 4 + image_tokens] = torch.where(torch.rand(batch, image_tokens) < 0.3, 1234, -100)
    made = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(batch, 3, side, side),
        "labels": labels,
        "vision_labels": vision,
    }
    return {name: value.to(device) for name, value in made.items()}


def trainer_of(variant: str, model: Any, device: str, batch: int) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from fivl_hf import FiVLConfig, FiVLTrainer
    from fivl_hf.augment.scenes import scene_rows
    from fivl_hf.scenes.model import scene_processor
    from fivl_hf.schema import FEATURES

    kind, config = (FiVLTrainer, FiVLConfig) if variant == "fivl" else (SFTTrainer, SFTConfig)
    return kind(
        model,
        config(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=batch,
            gradient_checkpointing=True,
            bf16=device != "cpu",
            use_cpu=device == "cpu",
            report_to="none",
            max_length=None,
        ),
        # Neither is read: the batches are made above.
        train_dataset=Dataset.from_list(list(scene_rows("train", 2)), features=FEATURES),
        processing_class=scene_processor(),
        peft_config=LoraConfig(
            r=64, target_modules=r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|up_proj|down_proj|gate_proj)"
        ),
    )


def papers_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits of every position in float32, and a cross-entropy for each task."""
    inputs = {name: value for name, value in batch.items() if "labels" not in name}
    logits = model(**inputs).logits.float()
    entropy = torch.nn.functional.cross_entropy
    text = entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    return 0.9 * text + 0.1 * entropy(logits.flatten(0, 1), batch["vision_labels"].flatten())


def timed(run: Callable[[], Any], repeats: int, device: str) -> float:
    """Return median seconds of a call, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure_step(variant: str, size: str, batch: int, repeats: int, device: str) -> dict[str, float]:
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    trainer = trainer_of(variant, llava(size, device, dtype), device, batch)
    model, inputs = trainer.model, random_batch(trainer.model, batch, device)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    plain = {name: value for name, value in inputs.items() if variant == "fivl" or name != "vision_labels"}
    trainer.current_gradient_accumulation_steps = 1
    items = trainer._get_num_items_in_batch([plain], torch.device(device))

    def step() -> None:
        if variant == "paper":
            papers_loss(model, inputs).backward()
        else:
            trainer.training_step(model, dict(plain), items)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    memory = Memory(device)
    seconds = timed(step, repeats, device)
    return {"seconds": seconds, "megabytes": memory.peak()}


def measure_heads(variant: str, size: str, repeats: int, device: str) -> dict[str, float]:
    """Four rows of attention to the image's columns, and their rank correlation with a coverage."""
    from fivl_hf.explain.measures import spearman
    from fivl_hf.explain.probe import record_attention

    model = llava(size, device, torch.float32 if device == "cpu" else torch.bfloat16).eval()
    inputs = {k: v for k, v in random_batch(model, 1, device).items() if "labels" not in k}
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    length = inputs["input_ids"].shape[1]
    rows = torch.arange(length - 4, length, device=device)[None]
    columns = torch.nonzero(inputs["input_ids"][0] == IMAGE_TOKEN).flatten()[None]
    coverage = torch.rand(columns.shape[1]).numpy()

    def probe() -> Any:
        with record_attention(model, rows, columns) as recorded:
            model.base_model(**inputs, use_cache=False)
        return spearman(recorded.stacked()[0].mean(dim=2), coverage)

    def eager() -> Any:
        from scipy.stats import spearmanr

        attentions = model.base_model(**inputs, use_cache=False, output_attentions=True).attentions
        chosen = torch.stack([a[0][:, rows[0]][..., columns[0]].mean(dim=1) for a in attentions]).float().cpu().numpy()
        return [[spearmanr(head, coverage).statistic for head in layer] for layer in chosen]

    if variant == "eager":
        model.set_attn_implementation("eager")
    run = {"probe": probe, "eager": eager}[variant]
    with torch.inference_mode():
        run()
        memory = Memory(device)
        seconds = timed(run, repeats, device)
    return {"seconds": seconds, "megabytes": memory.peak()}


def alone(arguments: list[str]) -> dict[str, float]:
    """Measure one variant in a process of its own."""
    one_gpu = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]}
    command, environment = [sys.executable, __file__, *arguments], {**os.environ, **one_gpu}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="7b" if gpu else "small", help="the model's shapes")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16] if gpu else [4], help="samples per step")
    parser.add_argument("--repeats", type=int, default=8 if gpu else 5, help="timed steps per process")
    parser.add_argument("--rounds", type=int, default=2, help="processes per variant")
    parser.add_argument("--gpu", action="store_true", help="stop where there is no GPU")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.gpu and not gpu:
        parser.error("torch sees no GPU here")
    device = "cuda" if gpu else "cpu"
    common = ["--size", options.size, "--repeats", str(options.repeats)]
    if options.one:
        torch.set_num_threads(1)
        if options.one in VARIANTS:
            print(json.dumps(measure_step(options.one, options.size, options.batch[0], options.repeats, device)))
        else:
            print(json.dumps(measure_heads(options.one, options.size, options.repeats, device)))
        return
    table = []
    for batch in options.batch:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
        for _ in range(options.rounds):
            for name in VARIANTS:
                found[name].append(alone([*common, "--batch", str(batch), "--one", name]))
        table += _lines(f"step, batch {batch}", found, "fivl")
    heads = {name: [alone([*common, "--one", name])] for name in ("eager", "probe")}
    table += _lines("head analysis", heads, "probe")
    shown = {"7b": "LLaVA-1.5-7B shapes", "small": "small shapes"}[options.size]
    name = torch.cuda.get_device_name() if gpu else "CPU"
    title = f"{shown}, {name} (aims: time and memory ≤ 1.02 of sft's, memory ≤ 0.6 of paper's)"
    publish("training_gpu" if gpu else "training_cpu", title, table)


def _lines(what: str, found: dict[str, list[dict[str, float]]], ours: str) -> list[dict[str, Any]]:
    """Return a line per variant: what it took, and ours as a share of it."""
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "megabytes")}
        for name, runs in found.items()
    }
    return [
        {
            "what": what,
            "how": name,
            "seconds": took["seconds"],
            "MB_above_model": took["megabytes"],
            "our_time_ratio": medians[ours]["seconds"] / took["seconds"],
            "our_memory_ratio": medians[ours]["megabytes"] / took["megabytes"],
        }
        for name, took in medians.items()
    ]


if __name__ == "__main__":
    main()
