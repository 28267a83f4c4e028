"""Scenes as an input of augmentation and as a grounder: they take the same way as real data.

The offline extractor finds the key expressions, an exact grounder draws their masks.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fivl_hf.augment.extractors.noun_phrases import NounPhraseExtractor
from fivl_hf.augment.grounding import Grounding, GroundingRequest
from fivl_hf.augment.inputs.conversations import Conversation
from fivl_hf.augment.rows import Sample, Tools, augment, build_rows, checked_row
from fivl_hf.jobs.outcomes import Drop, Failure, Tally
from fivl_hf.masks import BoolArray, mask_boxes, union
from fivl_hf.scenes.catalog import ALIGNED, find_scene, scene_ids
from fivl_hf.scenes.free import FreeScene, free_scene
from fivl_hf.scenes.questions import is_negative_answer, question_kinds
from fivl_hf.scenes.rendering import Scene
from fivl_hf.scenes.styles import STYLES

__all__ = [
    "SceneGrounder",
    "SceneImage",
    "scene_conversations",
    "scene_image",
    "scene_questions",
    "scene_rows",
    "scene_tools",
]


@dataclass(frozen=True)
class SceneImage:
    """The image of a scene, rendered when it is read."""

    scene: Scene | FreeScene

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
        return SceneImage(find_scene(row_id))
    except ValueError as error:
        raise ValueError(
            f"{row_id!r} is not the id of a scene: the grounder scenes knows only rows of fivl_scenes and of the demo"
        ) from error


class SceneGrounder:
    """Grounds an expression such as "red circle", "two rings" or "circle" exactly, by what the scene is rendered from.

    Its evidence is every object that has all of the words.
    """

    def ground(self, requests: Sequence[GroundingRequest]) -> list[list[Grounding | None]]:
        return [[_grounding(_scene(each).find(text)) for text in each.expressions] for each in requests]


def _scene(request: GroundingRequest) -> Scene | FreeScene:
    (source,) = request.sources
    if not isinstance(source, SceneImage):
        raise ValueError(f"the grounder scenes knows only what --input scenes renders, not the image {source.name!r}")
    return source.scene


def scene_tools() -> Tools:
    """Return the tools that make rows of scenes: offline extraction, exact grounding."""
    return Tools(NounPhraseExtractor(), SceneGrounder())


def scene_rows(
    split: str,
    count: int,
    seed: int = 0,
    *,
    style: str = ALIGNED,
    start: int = 0,
    tally: Tally | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the checked FiVL rows of ``count`` scenes of one split, beginning with number ``start``.

    Args:
        split: "train", "validation" or "test"; no scene is in two of them.
        seed: another seed gives other scenes.
        style: see :data:`fivl_hf.scenes.catalog.STYLE_NAMES`.

    Raises:
        ValueError: an unknown split or style.
    """
    return augment(scene_conversations(split, count, seed, style=style, start=start), scene_tools(), tally)


def scene_conversations(
    split: str, count: int, seed: int = 0, *, style: str = ALIGNED, start: int = 0
) -> Iterator[Conversation]:
    """Return the conversations from which :func:`scene_rows` makes its rows; raises as it does."""
    return (_conversation(find_scene(scene_id)) for scene_id in scene_ids(style, split, seed, start, count))


def scene_questions(
    split: str, count: int, seed: int = 0, *, style: str = "free", kinds: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Return ``count`` checked benchmark rows, one question each, equally many of each kind.

    Their category is the kind. Questions about what is absent have no evidence, as in POPE.

    Args:
        kinds: of :func:`fivl_hf.scenes.questions.question_kinds`, or "caption"; by default all kinds of the style.

    Raises:
        ValueError: an unknown split, a style that has no kinds of questions, or a kind that the style does not have.
    """
    if style not in STYLES:
        raise ValueError(f"style must be one of {tuple(STYLES)}, got {style!r}")
    fitting = question_kinds(STYLES[style])
    if unfit := set(kinds) - {*fitting, "caption"}:
        allowed = ", ".join((*fitting, "caption"))
        raise ValueError(f"{style} scenes have no questions of kind {', '.join(sorted(unfit))}, only of {allowed}")
    kinds = kinds or fitting
    wanted = {kind: -(-count // len(kinds)) for kind in kinds}
    return islice(_benchmark_rows(scene_ids(style, split, seed, 0, sys.maxsize), wanted), count)


def _benchmark_rows(ids: Iterable[str], missing: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield a row about each scene, of the kind that is missing most; ``missing`` is counted down."""
    tools = scene_tools()
    for scene_id in ids:
        plan = free_scene(scene_id)
        for kind in sorted(missing, key=lambda kind: -missing[kind]):
            turn = plan.question(kind) if missing[kind] else None
            if turn and (row := _benchmark_row(plan, kind, turn, tools)):
                missing[kind] -= 1
                yield row
                break


def _benchmark_row(plan: FreeScene, kind: str, turn: tuple[str, str], tools: Tools) -> dict[str, Any] | None:
    """Return a question's row; None where there is evidence, and the offline extractor does not find it."""
    images = (SceneImage(plan),)
    record = Conversation(plan.id, images, _messages([turn]), "scenes", answers=(turn[1],), category=kind)
    result = build_rows([Sample(record)], tools)[0].result
    if isinstance(result, Drop) and is_negative_answer(turn[1]):
        result = checked_row(record, [image.read() for image in images], [], [])
    if isinstance(result, Failure):
        raise ValueError(f"scene {plan.id}: {result.reason}: {result.detail}")
    return result if isinstance(result, dict) else None


def _conversation(plan: Scene | FreeScene) -> Conversation:
    return Conversation(plan.id, (SceneImage(plan),), _messages(plan.turns), "scenes")


def _messages(turns: Iterable[tuple[str, str]]) -> tuple[dict[str, str], ...]:
    return tuple(
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    )


def _grounding(masks: Sequence[BoolArray]) -> Grounding | None:
    boxes = tuple(tuple(box) for mask in masks for box in mask_boxes(mask[None]).tolist())
    return Grounding(union(masks), boxes, 1.0) if masks else None
