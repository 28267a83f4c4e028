"""Scenes as an input of augmentation and as a grounder: they take the same way as real data.

The offline extractor finds the key expressions, an exact grounder draws their masks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fivl_hf.augment.extractors.noun_phrases import NounPhraseExtractor
from fivl_hf.augment.grounding import Grounding, GroundingRequest
from fivl_hf.augment.inputs.conversations import Conversation
from fivl_hf.augment.rows import Tools, augment
from fivl_hf.jobs.outcomes import Tally
from fivl_hf.masks import mask_boxes, union
from fivl_hf.scenes.rendering import SPLITS, Scene, SceneObject, scene

__all__ = ["SceneGrounder", "SceneImage", "SceneWordGrounder", "scene_conversations", "scene_image", "scene_rows"]


@dataclass(frozen=True)
class SceneImage:
    """The image of a scene, rendered when it is read."""

    scene: Scene

    @property
    def name(self) -> str:
        return self.scene.id

    def exists(self) -> bool:
        return True

    def read(self) -> bytes:
        return self.scene.image()


def scene_image(row_id: str) -> SceneImage:
    """Return the image of the scene of a row; raises ValueError for an id that is not a scene's."""
    try:
        return SceneImage(scene(row_id))
    except ValueError as error:
        raise ValueError(
            f"{row_id!r} is not the id of a scene: the grounder scenes knows only rows of fivl_scenes and of the demo"
        ) from error


class SceneGrounder:
    """Grounds an expression such as "red circle" exactly, from what the scene was rendered from."""

    def ground(self, requests: Sequence[GroundingRequest]) -> list[list[Grounding | None]]:
        return [self._scene(request) for request in requests]

    def _scene(self, request: GroundingRequest) -> list[Grounding | None]:
        named = {thing.name: thing for thing in _objects(request)}
        return [_grounding(named[text]) if text in named else None for text in request.expressions]


class SceneWordGrounder:
    """Grounds a single word, such as "circle" or "red", exactly: all objects of a scene whose name has it."""

    def ground(self, requests: Sequence[GroundingRequest]) -> list[list[Grounding | None]]:
        return [[_word_grounding(word, _objects(each)) for word in each.expressions] for each in requests]


def _objects(request: GroundingRequest) -> tuple[SceneObject, ...]:
    (source,) = request.sources
    if not isinstance(source, SceneImage):
        raise ValueError(f"the grounder scenes knows only what --input scenes renders, not the image {source.name!r}")
    return source.scene.objects


def scene_rows(
    split: str, count: int, seed: int = 0, *, start: int = 0, tally: Tally | None = None
) -> Iterator[dict[str, Any]]:
    """``count`` checked FiVL rows of one split, beginning with number ``start``.

    Args:
        split: "train", "validation" or "test"; no scene is in two of them.
        seed: another seed gives other scenes.

    Raises:
        ValueError: an unknown split.
    """
    tools = Tools(NounPhraseExtractor(), SceneGrounder())
    return augment(scene_conversations(split, count, seed, start=start), tools, tally)


def scene_conversations(split: str, count: int, seed: int = 0, *, start: int = 0) -> Iterator[Conversation]:
    """Return the conversations from which :func:`scene_rows` makes its rows; raises as it does."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    return (_conversation(scene(f"scene-{seed}-{split}-{i}")) for i in range(start, start + count))


def _conversation(scene: Scene) -> Conversation:
    messages = tuple(
        {"role": role, "content": text}
        for turn in scene.turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    )
    return Conversation(scene.id, (SceneImage(scene),), messages, "scenes")


def _word_grounding(word: str, objects: Sequence[SceneObject]) -> Grounding | None:
    groundings = [_grounding(thing) for thing in objects if word in thing.name.split()]
    boxes = tuple(box for each in groundings for box in each.boxes)
    return Grounding(union([each.mask for each in groundings]), boxes, 1.0) if groundings else None


def _grounding(thing: SceneObject) -> Grounding:
    mask = thing.mask()
    x0, y0, x1, y1 = mask_boxes(mask[None])[0].tolist()
    return Grounding(mask, ((x0, y0, x1, y1),), 1.0)
