"""Augmentations of scenes and of small files of photographs, and servers that answer for a language model."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_dataset
from scripted_server import Answer, asked_answer

from fivl_hf.augment.extractors.noun_phrases import NounPhraseExtractor
from fivl_hf.augment.grounding import Grounding, GroundingRequest
from fivl_hf.augment.inputs.conversations import Record
from fivl_hf.augment.inputs.readers import read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.augment.rows import Tools
from fivl_hf.augment.tools import ToolSettings

SCENES = ToolSettings(grounder="scenes")


def scenes(count: int) -> Callable[[], Iterator[Record]]:
    """A reader of the first scenes."""
    return partial(read_conversations, InputSettings("scenes", limit=count))


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a dataset folder, as `datasets` reads them."""
    return load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache")).to_list()


def names_the_thing(body: dict[str, Any], number: int) -> Answer:
    """What a good model says of "It is a red circle." and "There is a red circle."."""
    words = asked_answer(body).rstrip(".").split()
    return Answer(json.dumps({"expressions": [" ".join(words[-2:])]}), delay=0.02)


def photo_conversations(folder: Path, thing: str = "car", count: int = 400) -> Callable[[], Iterator[Record]]:
    """A reader of a LLaVA file in the folder, two samples with an id each; every fourth sample's image is missing."""
    entries = [
        {
            "id": i // 2,
            "image": "b.jpg" if i % 4 == 3 else "a.jpg",
            "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": f"It is a {thing} {i}."}],
        }
        for i in range(count)
    ]
    (folder / "mix.json").write_text(json.dumps(entries))
    return partial(read_conversations, InputSettings(str(folder / "mix.json"), images=(folder,)))


def whole_image(worker: int) -> Tools:
    """Tools of a worker whose grounder finds everything everywhere."""
    return Tools(NounPhraseExtractor(), WholeImage())


class WholeImage:
    """A grounder to which every expression is all of the first image."""

    def ground(self, requests: Sequence[GroundingRequest]) -> list[list[Grounding | None]]:
        return [[self.one(request)] * len(request.expressions) for request in requests]

    def one(self, request: GroundingRequest) -> Grounding:
        width, height = request.images[0].size
        return Grounding(np.ones((height, width), dtype=bool), ((0, 0, width, height),))


def names_the_first_noun(body: dict[str, Any], number: int) -> Answer:
    """What a good model says of "It is a car 7."."""
    return Answer(json.dumps({"expressions": [asked_answer(body).split()[3]]}))
