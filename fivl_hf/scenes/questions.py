"""Questions about free scenes, with answers that the picture settles, and their captions.

Every kind says beyond doubt which objects it means; where a scene has no such question of a kind, there is none.
"""

import re
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from fivl_hf.scenes.objects import FreeObject
from fivl_hf.scenes.photographs import CUT_OUTS
from fivl_hf.scenes.styles import COLORS, HELD_OUT, SHAPES, SceneStyle

__all__ = [
    "CAPTION",
    "QUESTION_KINDS",
    "WORDS",
    "Question",
    "ask",
    "caption",
    "caption_of",
    "is_negative_answer",
    "names_from_left",
    "plural",
    "question_kinds",
]

# Question, answer.
Question = tuple[str, str]

CAPTION = "Describe the image."
_NUMBERS = ("no", "one", "two", "three", "four")
_RELATIONS = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
_MARGIN = 4.0  # pixels between two centres before one counts as left of or above the other
_LARGER = 1.25  # ratio of radii, and of visible pixels, before one counts as larger
_TEMPLATES = (
    "What color is the ? It is a an . What shape is the thing that is ? What is left of right above below between "
    "the and ? There is are . How many are there ? Is there ? Yes , there No The Which is larger smaller or the "
    f"{CAPTION} USER : ASSISTANT : object"
)


def plural(noun: str) -> str:
    """Return the plural of one of the scenes' nouns."""
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


WORDS = tuple(
    dict.fromkeys(
        [
            *re.findall(r"\w+", _TEMPLATES),
            *_NUMBERS,
            *COLORS,
            *(word for noun in (*SHAPES, *CUT_OUTS) for word in (noun, plural(noun))),
        ]
    )
)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _unique(objects: Sequence[FreeObject]) -> list[FreeObject]:
    names = [thing.name for thing in objects]
    return [thing for thing in objects if names.count(thing.name) == 1]


def names_from_left(objects: Sequence[FreeObject]) -> list[str]:
    """Return the names of all objects from left to right."""
    return [thing.name for thing in sorted(objects, key=lambda thing: thing.center[0])]


def caption(objects: Sequence[FreeObject]) -> str:
    """Return a sentence that names every object from left to right."""
    return caption_of(names_from_left(objects))


def caption_of(names: Sequence[str]) -> str:
    """Return the caption that lists names."""
    listed = [_a(name) for name in names]
    return f"There is {', '.join(listed[:-1])} and {listed[-1]}."


def _colors(objects: Sequence[FreeObject], _rng: np.random.Generator, _training: bool) -> list[Question]:
    return _name_questions(objects, "What color is the {}?", [thing.noun for thing in objects])


def _shapes(objects: Sequence[FreeObject], _rng: np.random.Generator, _training: bool) -> list[Question]:
    return _name_questions(objects, "What shape is the {} object?", [str(thing.color) for thing in objects])


def _name_questions(objects: Sequence[FreeObject], question: str, words: Sequence[str]) -> list[Question]:
    """Ask for the name of each drawn object whose word no other object has."""
    return [
        (question.format(word), f"It is {_a(thing.name)}.")
        for thing, word in zip(objects, words, strict=True)
        if thing.color and words.count(word) == 1
    ]


def _relations(objects: Sequence[FreeObject], _rng: np.random.Generator, _training: bool) -> list[Question]:
    """Ask for the one other object on a side of an object."""
    questions = []
    for anchor in _unique(objects):
        for relation, (axis, sign) in _RELATIONS.items():
            distances = {i: sign * (o.center[axis] - anchor.center[axis]) for i, o in enumerate(objects)}
            others = {i: d for i, d in distances.items() if objects[i] is not anchor}
            there = [i for i, d in others.items() if d > _MARGIN]
            if len(there) == 1 and all(d > _MARGIN or d < 0 for d in others.values()):
                answer = f"There is {_a(objects[there[0]].name)}."
                questions.append((f"What is {relation} the {anchor.name}?", answer))
    return questions


def _between(objects: Sequence[FreeObject], rng: np.random.Generator, _training: bool) -> list[Question]:
    """Ask for the one object on the line between two others, where nothing else is near that line."""
    if len(_unique(objects)) < len(objects) or len(objects) < 4:
        return []  # of three objects, it would be the one that the question does not name
    questions = []
    for one, other in combinations(objects, 2):
        rest = [thing for thing in objects if thing is not one and thing is not other]
        near = [thing for thing in rest if _is_between(thing, one, other, thing.radius + _MARGIN)]
        if len(near) == 1 and _is_between(near[0], one, other, near[0].radius / 2):
            first, second = (one, other) if rng.random() < 0.5 else (other, one)
            question = f"What is between the {first.name} and the {second.name}?"
            questions.append((question, f"There is {_a(near[0].name)}."))
    return questions


def _is_between(thing: FreeObject, one: FreeObject, other: FreeObject, distance: float) -> bool:
    """Return whether a centre lies beside the segment between two others, at most ``distance`` pixels from its line."""
    start, end, point = (np.array(each.center) for each in (one, other, thing))
    along = end - start
    length = float(np.hypot(*along))
    share = float((point - start) @ along) / length**2
    across = abs(float(along[0] * (point - start)[1] - along[1] * (point - start)[0])) / length
    return 0 < share < 1 and across <= distance


def _counts(objects: Sequence[FreeObject], rng: np.random.Generator, _training: bool) -> list[Question]:
    """Ask how many there are of a noun; of one that is absent in one case of five."""
    present = sorted({thing.noun for thing in objects})
    absent = [noun for noun in _nouns(objects) if noun not in present]
    noun = absent[rng.integers(len(absent))] if rng.random() < 0.2 else present[rng.integers(len(present))]
    count = sum(thing.noun == noun for thing in objects)
    answer = f"There is one {noun}." if count == 1 else f"There are {_NUMBERS[count]} {plural(noun)}."
    return [(f"How many {plural(noun)} are there?", answer)]


def _nouns(objects: Sequence[FreeObject]) -> tuple[str, ...]:
    return SHAPES if objects[0].color else CUT_OUTS


def _presence(objects: Sequence[FreeObject], rng: np.random.Generator, training: bool) -> list[Question]:
    """Ask for an object that is there or not, one time in two (as POPE does).

    At least half of the absent ones share a word with what is there.
    """
    names = [thing.name for thing in objects]
    if rng.random() < 0.5:
        name = names[rng.integers(len(names))]
        return [(f"Is there {_a(name)}?", f"Yes, there is {_a(name)}.")]
    drawn = bool(objects[0].color)
    absent = [name for name in _all_names(drawn) if name not in names and not (training and name in HELD_OUT)]
    if drawn and rng.random() < 0.5:
        words = {word for name in names for word in name.split()}
        absent = [name for name in absent if words & set(name.split())]
    if not absent:
        return []
    name = absent[rng.integers(len(absent))]
    return [(f"Is there {_a(name)}?", f"No, there is no {name}.")]


def _all_names(drawn: bool) -> tuple[str, ...]:
    return tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES) if drawn else CUT_OUTS


def _sizes(objects: Sequence[FreeObject], rng: np.random.Generator, _training: bool) -> list[Question]:
    """Ask which of two objects of one noun is larger, or smaller; the larger one also shows more of itself."""
    questions = []
    for one, other in combinations(_unique(objects), 2):
        small, large = sorted((one, other), key=lambda thing: thing.radius)
        if (
            one.noun == other.noun
            and large.radius >= _LARGER * small.radius
            and large.visible.sum() >= _LARGER * small.visible.sum()
        ):
            word, right = (("larger", large), ("smaller", small))[rng.integers(2)]
            first, second = (one, other) if rng.random() < 0.5 else (other, one)
            question = f"Which is {word}, the {first.name} or the {second.name}?"
            questions.append((question, f"The {right.name} is {word}."))
    return questions


QUESTION_KINDS: dict[str, Callable[[Sequence[FreeObject], np.random.Generator, bool], list[Question]]] = {
    "color": _colors,
    "shape": _shapes,
    "relation": _relations,
    "between": _between,
    "count": _counts,
    "presence": _presence,
    "size": _sizes,
}


def question_kinds(style: SceneStyle) -> tuple[str, ...]:
    """Return the kinds of questions that a style has.

    Photographs have no colours or shapes to ask for, and no two objects of one noun to tell apart; objects on the grid
    are all of about one size.
    """
    missing = {"color", "shape", "size"} if style.photographs else {"size"} if style.grid else set()
    return tuple(kind for kind in QUESTION_KINDS if kind not in missing)


def is_negative_answer(answer: str) -> bool:
    """Return whether an answer says that there is nothing of what was asked for."""
    return answer.startswith(("No,", "There are no "))


def ask(kind: str, objects: Sequence[FreeObject], rng: np.random.Generator, *, training: bool) -> Question | None:
    """Draw a question of a kind of :data:`QUESTION_KINDS`, or ``"caption"``; None where the scene has none.

    Args:
        training: do not ask for pairs of colour and shape that are held out of training, not even as absent.
    """
    if kind == "caption":
        return CAPTION, caption(objects)
    questions = QUESTION_KINDS[kind](objects, rng, training)
    return questions[rng.integers(len(questions))] if questions else None
