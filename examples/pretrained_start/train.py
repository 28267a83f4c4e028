"""Make ``fivl_hf/scenes/pretrained.safetensors``: the small LLaVA for free scenes as LLaVA-1.5 is before stage 2.

python examples/pretrained_start/train.py

Three trainings, on scenes of other seeds than the demo and the ablations take:

1. a vision tower, contrastively with captions (CLIP), each image against its own caption with a word altered, too
   (NegCLIP);
2. a language model on the text of conversations, without images;
3. the projector between them, on captions, with both frozen (LLaVA-1.5's stage 1).

About half an hour on two cores. Each stage is kept in --work, so that an interrupted run goes on after the last one.
"""

import argparse
import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import CLIPConfig, CLIPModel, LlamaForCausalLM, get_cosine_schedule_with_warmup, set_seed

from fivl_hf.scenes.free import free_scene
from fivl_hf.scenes.model import PRETRAINED, free_model, free_processor
from fivl_hf.scenes.photographs import CUT_OUTS
from fivl_hf.scenes.questions import CAPTION, caption_of, names_from_left
from fivl_hf.scenes.styles import COLORS, EDITION, SHAPES

SEED = 90_000  # of scenes that nothing else takes
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Captioned:
    """Scenes for stages 1 and 3: (N, 3, S, S) pixels, 0 to 255, captions and altered captions."""

    pixels: torch.Tensor
    captions: list[str]
    altered: list[str]


def main() -> None:
    options = _arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    processor = free_processor()
    scenes = _scenes(options.scenes)
    sizes = (options.scenes, options.batch_size, options.tower_steps)
    tower = _stage(options.work, "tower", sizes, lambda: _train_tower(scenes, processor, options))
    language = _stage(options.work, "language", (options.language_steps,), lambda: _train_language(processor, options))
    model = free_model(processor)
    model.model.vision_tower.load_state_dict(tower)
    _load_language(model, language)
    projector = _stage(
        options.work,
        "projector",
        (*sizes, options.language_steps, options.projector_steps),
        lambda: _train_projector(model, scenes, processor, options),
    )
    model.model.multi_modal_projector.load_state_dict(projector)
    weights = {name: value.half() for name, value in model.state_dict().items()}
    save_file(weights, options.output)
    digest = hashlib.sha256(options.output.read_bytes()).hexdigest()
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB, SHA-256 {digest}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60_000, help="captioned scenes (default: 60,000)")
    parser.add_argument("--tower-steps", type=int, default=2_500, help="of 256 scenes (default: 2,500)")
    parser.add_argument("--language-steps", type=int, default=1_500, help="of 64 conversations (default: 1,500)")
    parser.add_argument("--projector-steps", type=int, default=1_000, help="of 64 captions (default: 1,000)")
    parser.add_argument("--batch-size", type=int, default=256, help="scenes per contrastive step (default: 256)")
    parser.add_argument("--work", type=Path, default=Path("pretrained_start"), help="folder for finished stages")
    parser.add_argument("--output", type=Path, default=PRETRAINED, help="the file to make")
    return parser.parse_args()


def _stage(work: Path, name: str, sizes: tuple[int, ...], train: Callable[[], Weights]) -> Weights:
    """Return a stage's weights, trained if no file of this edition of scenes and of these sizes has them.

    They are rounded as the file that is shipped rounds them, so that later stages train on what is shipped.
    """
    path = work / f"{name}-{'-'.join(map(str, (EDITION, *sizes)))}.safetensors"
    if not path.exists():
        part = path.with_suffix(".part")
        save_file({name: value.half().contiguous() for name, value in train().items()}, part)
        part.replace(path)
    return load_file(path)


def _scenes(count: int) -> Captioned:
    with multiprocessing.Pool(os.cpu_count()) as pool:
        made = list(tqdm(pool.imap(_captioned, range(count), 500), total=count, desc="Scenes", unit="scene"))
    pixels = torch.from_numpy(np.stack([image for image, _, _ in made])).permute(0, 3, 1, 2)
    return Captioned(pixels, [text for _, text, _ in made], [text for _, _, text in made])


def _captioned(number: int) -> tuple[NDArray[np.uint8], str, str]:
    """Return a scene, its caption and an altered one; one scene in four is made of photographs."""
    scene = free_scene(f"{'photographs' if number % 4 == 3 else 'even'}-{SEED}-train-{number}")
    names = names_from_left(scene.objects)
    return scene.pixels(), caption_of(names), caption_of(_altered(names, np.random.default_rng(number)))


def _altered(names: list[str], rng: np.random.Generator) -> list[str]:
    """Return the names with two colours or nouns exchanged, or one replaced."""
    words = [name.split() for name in names]
    one, other = rng.choice(len(words), 2, replace=False)
    place = int(rng.integers(len(words[0])))
    if words[one][place] != words[other][place] and rng.random() < 0.5:
        words[one][place], words[other][place] = words[other][place], words[one][place]
    else:
        choices = (list(COLORS), SHAPES)[place] if len(words[0]) == 2 else CUT_OUTS
        words[one][place] = str(rng.choice([word for word in choices if word != words[one][place]]))
    return [" ".join(each) for each in words]


def _pixel_values(pixels: torch.Tensor, processor: Any) -> torch.Tensor:
    """Normalize (N, 3, S, S) bytes as the processor does."""
    image_processor = processor.image_processor
    mean, std = (
        torch.tensor(each).view(1, 3, 1, 1) for each in (image_processor.image_mean, image_processor.image_std)
    )
    return (pixels.float() / 255 - mean) / std


def _batches(count: int, size: int, steps: int, title: str) -> Iterator[torch.Tensor]:
    """Yield random indices, epoch after epoch."""
    generator = torch.Generator().manual_seed(0)
    order = torch.empty(0, dtype=torch.long)
    for _ in tqdm(range(steps), desc=title, unit="step"):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:size]
        order = order[size:]


def _fit(
    module: torch.nn.Module,
    batches: Iterable[torch.Tensor],
    rate: float,
    steps: int,
    loss_of: Callable[..., torch.Tensor],
) -> None:
    """Train a module with AdamW and cosine decay; ``loss_of`` gives the loss of a batch of indices."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = get_cosine_schedule_with_warmup(optimizer, min(100, steps // 10), steps)
    losses = []
    for step, batch in enumerate(batches, start=1):
        loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 100 == 0:
            tqdm.write(f"step {step}: loss {np.mean(losses[-100:]):.3f}")


def _train_tower(scenes: Captioned, processor: Any, options: argparse.Namespace) -> Weights:
    tokenizer = processor.tokenizer
    texts = tokenizer(
        [text + tokenizer.eos_token for text in scenes.captions + scenes.altered], padding=True, return_tensors="pt"
    )
    vision = free_model(processor).config.vision_config
    text_sizes = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    length = texts["input_ids"].shape[1]
    text = {**text_sizes, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": length}
    set_seed(0)
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision.to_dict(), projection_dim=96))
    count = len(scenes.captions)

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([batch, batch + count])
        logits = clip(
            pixel_values=_pixel_values(scenes.pixels[batch], processor),
            input_ids=texts["input_ids"][rows],
            attention_mask=texts["attention_mask"][rows],
        ).logits_per_image  # (B, 2B): own captions, then altered ones
        own = torch.arange(len(batch))
        of_captions = functional.cross_entropy(logits[:, : len(batch)].T, own)
        return (functional.cross_entropy(logits, own) + of_captions) / 2

    batches = _batches(count, options.batch_size, options.tower_steps, "Vision tower")
    _fit(clip, batches, 1e-3, options.tower_steps, loss_of)
    return clip.vision_model.state_dict()


def _train_language(processor: Any, options: argparse.Namespace) -> Weights:
    """Train on conversations without their image, so that the language model knows the words and what is usual."""
    tokenizer = processor.tokenizer
    count = 64 * options.language_steps
    with multiprocessing.Pool(os.cpu_count()) as pool:
        texts = list(tqdm(pool.imap(_conversation, range(count), 500), total=count, desc="Text", unit="scene"))
    data = tokenizer(texts, padding=True, return_tensors="pt")
    set_seed(0)
    model = LlamaForCausalLM(free_model(processor).config.text_config)

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        ids, attention = data["input_ids"][batch], data["attention_mask"][batch]
        return model(input_ids=ids, attention_mask=attention, labels=ids.masked_fill(attention == 0, -100)).loss

    batches = _batches(count, 64, options.language_steps, "Language model")
    _fit(model, batches, 2e-3, options.language_steps, loss_of)
    return model.state_dict()


def _conversation(number: int) -> str:
    """Return a conversation as :data:`fivl_hf.scenes.model.CHAT_TEMPLATE` writes it, without the image."""
    scene = free_scene(f"{'photographs' if number % 4 == 3 else 'free'}-{SEED + 1}-train-{number}")
    return "".join(f"USER: {asked} ASSISTANT: {answer}</s>" for asked, answer in scene.turns)


def _load_language(model: Any, weights: Weights) -> None:
    model.model.language_model.load_state_dict(
        {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
    )
    model.lm_head.load_state_dict({"weight": weights["lm_head.weight"]})


def _train_projector(model: Any, scenes: Captioned, processor: Any, options: argparse.Namespace) -> Weights:
    """Train the projector alone; only the captions' words count."""
    tokenizer = processor.tokenizer
    image = "<image>" * model.config.image_seq_length
    prompt = f"USER: {image} {CAPTION} ASSISTANT:"
    data = tokenizer([f"{prompt} {text}</s>" for text in scenes.captions], padding=True, return_tensors="pt")
    asked = len(tokenizer(prompt)["input_ids"])
    labels = data["input_ids"].masked_fill(data["attention_mask"] == 0, -100)
    labels[:, :asked] = -100
    model.requires_grad_(False)
    projector = model.model.multi_modal_projector
    projector.requires_grad_(True)

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        return model(
            pixel_values=_pixel_values(scenes.pixels[batch], processor),
            input_ids=data["input_ids"][batch],
            attention_mask=data["attention_mask"][batch],
            labels=labels[batch],
        ).loss

    batches = _batches(len(labels), 64, options.projector_steps, "Projector")
    _fit(projector, batches, 2e-3, options.projector_steps, loss_of)
    return projector.state_dict()


if __name__ == "__main__":
    main()
