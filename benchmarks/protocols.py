"""The paper's protocol against ours: what differs, counted on scenes, photographs and a synthetic release.

docs/paper.md has the figures. Photographs are searched by detectors with random weights: what they find means nothing,
but how the two ways of searching differ can be counted.
"""

import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import skimage.data
from PIL import Image
from random_models import save_grounding_dino, save_sam
from synthetic_release import THINGS, make_release
from table import publish
from transformers import LlavaImageProcessor, LlavaProcessor

from fivl_hf.augment.expressions import Mention, ProtocolName, check_expressions
from fivl_hf.augment.grounders.segmenters import load_segmenter
from fivl_hf.augment.grounding import GroundingRequest
from fivl_hf.augment.scenes import scene_rows
from fivl_hf.augment.tools import ToolSettings
from fivl_hf.building.run import BuildSettings, build_dataset, builder_class
from fivl_hf.evaluation.scorers import default_scorer, scorer
from fivl_hf.keywords import nouns
from fivl_hf.masks import box_iou, coverage
from fivl_hf.scenes.model import CHAT_TEMPLATE, scene_processor
from fivl_hf.schema import Turn
from fivl_hf.storage import load_rows
from fivl_hf.training.collator import FiVLCollator
from fivl_hf.training.config import VisionModelingOptions

PROTOCOLS: tuple[ProtocolName, ProtocolName] = ("default", "paper")
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")
RELEASE = 1_000
SCENES = 500


def main() -> None:
    rows = [*_expressions(), *_single_words(), *_proper_nouns(), *_searching(), _answers()]
    with tempfile.TemporaryDirectory() as folder:
        built = _build_release(Path(folder))
        rows += [*_imported(built), *_labels(built)]
    publish("protocols", "The paper's protocol against the default", rows)


def _line(difference: str, on: str, counted: str, found: dict[ProtocolName, float]) -> dict[str, Any]:
    return {"difference": difference, "on": on, "counted": counted, **{str(name): each for name, each in found.items()}}


def _scene_turns() -> list[Turn]:
    rows = scene_rows("train", SCENES)
    return [
        Turn(ask["content"], tell["content"])
        for row in rows
        for ask, tell in zip(row["messages"][::2], row["messages"][1::2], strict=True)
    ]


def _expressions() -> Iterator[dict[str, Any]]:
    """Entries such as language models write: things, their nouns in the singular, parts of words, refusals."""
    draw = random.Random(0)
    answers = [f"A {a} and two {b}s near a riverbank." for a, b in (draw.sample(THINGS, 2) for _ in range(SCENES))]
    turns = [Turn("What is in the image?", answer) for answer in answers]
    kinds = {
        "an entry as in the answer": lambda answer: [answer.split(" and ")[0].removeprefix("A ")],
        "an entry in another case": lambda answer: [answer.split(" and ")[0].removeprefix("A ").capitalize()],
        "the singular of a plural": lambda answer: [answer.split("two ")[1].split("s near")[0]],
        "a part of a word": lambda _: ["river"],
        "a thing whose name holds a refusal": lambda _: ["subway token", "visual effects"],
    }
    for kind, entries in kinds.items():
        found = {}
        for protocol in PROTOCOLS:
            kept = 0
            for turn in turns:
                told = Turn(turn.question, turn.answer + " A subway token, visual effects.")
                kept += len(check_expressions(entries(turn.answer), told, protocol).mentions)
            found[protocol] = float(kept)
        total = sum(len(entries(turn.answer)) for turn in turns)
        yield _line(kind, f"{SCENES} answers", f"kept of {total}", found)
    scenes = _scene_turns()
    found = {p: float(sum(len(check_expressions([t.answer[8:-1]], t, p).mentions) for t in scenes)) for p in PROTOCOLS}
    yield _line("an entry as in the answer", f"{len(scenes)} turns of scenes", f"kept of {len(scenes)}", found)


def _single_words() -> Iterator[dict[str, Any]]:
    turns = [Turn(f"Is there a {thing.split()[-1]}?", "Yes") for thing in THINGS for _ in range(50)]
    with_noun = {}
    for protocol in PROTOCOLS:
        mentions = [
            mention
            for turn in turns
            for mention in check_expressions([turn.question.split()[-1][:-1]], turn, protocol).mentions
        ]
        with_noun[protocol] = float(sum(bool(_keywords(mention, protocol)) for mention in mentions))
    yield _line("answers of one word", f"{len(turns)} yes/no questions", "expressions that supervise", with_noun)


def _proper_nouns() -> Iterator[dict[str, Any]]:
    names = ("Paris", "Big Ben", "Coca-Cola", "red kite", "brown dog", "white plate")
    found = {p: float(sum(bool(nouns(name, proper=p != "paper")) for name in names)) for p in PROTOCOLS}
    yield _line("nouns", "3 names and 3 things", "expressions that supervise", found)


def _answers() -> dict[str, Any]:
    said = ("Yes", "yes.", "Yes, there is.", "Yes, there is a dog.", "Yes! It lies on the sofa.", "The answer is yes.")
    names: dict[ProtocolName, str] = {"default": default_scorer("POPE"), "paper": "exact"}
    found = {p: float(sum(scorer(name)(answer, ["yes"]) == 1 for answer in said)) for p, name in names.items()}
    return _line("when an answer is right", f"{len(said)} ways to say yes", "right", found)


def _keywords(mention: Mention, protocol: ProtocolName) -> tuple[str, ...]:
    return nouns(mention.text, proper=protocol != "paper")


def _searching() -> Iterator[dict[str, Any]]:
    images = [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in PHOTOGRAPHS]
    for image in images:
        image.thumbnail((640, 640))
    labels = ("cat", "red cup", "person", "rocket")
    with tempfile.TemporaryDirectory() as folder:
        settings = ToolSettings(
            detector=str(save_grounding_dino(Path(folder) / "dino", size=256, queries=40)),
            segmenter=str(save_sam(Path(folder) / "sam")),
            threshold=0.5,
            device="cpu",
        )
        found: dict[ProtocolName, list[np.ndarray]] = {}
        shares: dict[ProtocolName, float] = {}
        for protocol in PROTOCOLS:
            grounder = replace(settings, protocol=protocol)(0).grounder
            requests = [GroundingRequest(str(i), (image,), (), labels) for i, image in enumerate(images)]
            groundings = [each for sample in grounder.ground(requests) for each in sample]
            found[protocol] = [np.array(each.boxes if each else (), dtype=float).reshape(-1, 4) for each in groundings]
            segmenter = load_segmenter(settings.segmenter, union=protocol == "paper")
            shares[protocol] = round(float(np.mean([_share_of_boxes(segmenter, image) for image in images])), 3)
    on = f"{len(images)} photographs × {len(labels)} labels, random detector"
    again = {protocol: _found_again(found["default"], found[protocol]) for protocol in PROTOCOLS}
    yield _line("the image padded to 336×336", on, "share of the default's boxes (IoU over 0.5)", again)
    yield _line(
        "the union of SAM's candidates", f"{len(images)} photographs, random SAM", "share of a box masked", shares
    )


def _found_again(boxes: list[np.ndarray], others: list[np.ndarray]) -> float:
    """Return the share of boxes for which there is another with an IoU over 0.5."""
    hits = [box_iou(a, b).max(axis=1, initial=0) > 0.5 for a, b in zip(boxes, others, strict=True)]
    return round(float(np.concatenate(hits).mean()), 3)


def _share_of_boxes(segmenter: Any, image: Image.Image) -> float:
    """Return how much of random boxes their masks cover."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.6, (12, 2)) * image.size
    boxes = np.concatenate([corners, corners + rng.uniform(0.1, 0.4, (12, 2)) * image.size], axis=1)
    masks = np.stack(list(segmenter.segment(image, boxes)))
    return float(np.mean([coverage(mask[None], box[None])[0, 0] for mask, box in zip(masks, boxes, strict=True)]))


def _build_release(folder: Path) -> dict[str, Any]:
    """Build a release with conversations of one id about other images, expressions inside words, and text alone."""
    made = make_release(folder / "files", RELEASE, hostile=False)
    conversations = json.loads((made.folder / "llava_v1_5_mix665k.json").read_text())
    segments = json.loads((made.folder / "fivl_instruct.json").read_text())
    for number, entry in enumerate(list(conversations)):
        if number % 20 == 3:
            conversations.append({**entry, "image": conversations[number - 1]["image"]})
        if number % 20 == 7 and entry["id"] in segments:
            prompt = segments[entry["id"]][0]["prompts"][0]
            prompt["prompt"] = prompt["prompt"][1:]
    text = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]
    conversations += [{"id": f"text-{number}", "conversations": text} for number in range(RELEASE // 20)]
    (made.folder / "llava_v1_5_mix665k.json").write_text(json.dumps(conversations))
    (made.folder / "fivl_instruct.json").write_text(json.dumps(segments))
    built = {}
    ways: dict[str, dict[str, Any]] = {
        "default": {},
        "paper": {"protocol": "paper"},
        "evidence only": {"evidence_only": True},
    }
    for name, options in ways.items():
        builder = builder_class("fivl_instruct")(cache_dir=str(folder / "cache"), data_dir=str(made.folder), **options)
        build_dataset(builder, BuildSettings(folder / name, workers=2))
        built[name] = load_rows(folder / name, "train")
    return built


def _imported(built: dict[str, Any]) -> Iterator[dict[str, Any]]:
    on = f"synthetic release of {RELEASE:,} samples"
    counts = {
        "rows": len,
        "rows without key expressions": lambda rows: sum(not each for each in rows["key_expressions"]),
        "key expressions": lambda rows: sum(map(len, rows["key_expressions"])),
        "rows of an id used before": lambda rows: sum(id.endswith("-2") for id in rows["id"]),
    }
    for counted, count in counts.items():
        found = {name: float(count(rows)) for name, rows in built.items()}
        line = _line("import of the release", on, counted, {protocol: found[protocol] for protocol in PROTOCOLS})
        yield {**line, "evidence_only": found["evidence only"]}


def _labels(built: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The 30% rule over visible or over all patches, on LLaVA-1.5's padded 24×24."""
    tokenizer = scene_processor().tokenizer
    pixels = LlavaImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, do_pad=True)
    processor = LlavaProcessor(
        pixels,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    rows = [row for row in built["default"].select(range(200)) if row["key_expressions"]]
    words = sorted({word for row in rows for each in row["key_expressions"] for word in each["keywords"]})
    tokenizer.add_tokens(words)
    config = SimpleNamespace(image_token_id=tokenizer.convert_tokens_to_ids("<image>"), get_text_config=lambda: None)
    found: dict[ProtocolName, float] = {}
    for protocol in PROTOCOLS:
        collator = FiVLCollator(
            processor=processor,
            model_config=config,
            answers_only=True,
            options=VisionModelingOptions(protocol=protocol),
        )
        found[protocol] = float(sum((collator([row])["vision_labels"] >= 0).sum() for row in rows))
    yield _line("masks over 30%", f"{len(rows)} rows of that release, padded", "labelled patches", found)


if __name__ == "__main__":
    main()
