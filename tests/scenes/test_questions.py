"""Every answer is checked against the objects by other rules than those that wrote it."""

import numpy as np
import pytest

from fivl_hf.scenes.free import free_scene
from fivl_hf.scenes.model import free_processor
from fivl_hf.scenes.questions import (
    CAPTION,
    QUESTION_KINDS,
    WORDS,
    ask,
    caption,
    is_negative_answer,
    plural,
    question_kinds,
)
from fivl_hf.scenes.styles import STYLES


def asked(kind, style="free", count=60):
    """Objects, question and answer of the scenes that have a question of a kind."""
    for number in range(count):
        objects = free_scene(f"{style}-3-test-{number}").objects
        if turn := ask(kind, objects, np.random.default_rng(number), training=False):
            yield objects, *turn


def named(objects, name):
    return [thing for thing in objects if thing.name == name]


def name_in(answer):
    return answer.rstrip(".").split(" a ")[-1].split(" an ")[-1].removeprefix("The ")


@pytest.mark.parametrize("kind", ["color", "shape"])
def test_colour_and_shape_name_the_one_object_meant(kind):
    for objects, question, answer in asked(kind):
        word = question.rstrip("?").split()[-1] if kind == "color" else question.split()[4]
        (meant,) = [thing for thing in objects if word in thing.name.split()]
        assert answer in (f"It is a {meant.name}.", f"It is an {meant.name}.")


def test_relations_hold_and_name_the_only_object_there():
    axes = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
    for objects, question, answer in asked("relation", count=200):
        relation = next(each for each in axes if each in question)
        (anchor,) = named(objects, question.split(" the ")[1].rstrip("?"))
        axis, sign = axes[relation]
        there = [o for o in objects if sign * (o.center[axis] - anchor.center[axis]) > 0]
        assert [thing.name for thing in there] == [name_in(answer)]


def test_what_is_between_is_between():
    """It is near the middle part of the line, by angles; everything else is beside or far from it."""
    for objects, question, answer in asked("between", count=600):
        first, second = question.rstrip("?").split("between the ")[1].split(" and the ")
        (one,), (other,), (middle,) = (named(objects, name) for name in (first, second, name_in(answer)))
        rest = [thing for thing in objects if thing not in (one, other, middle)]
        assert angle(one, middle, other) > 110
        assert rest and all(angle(one, thing, other) < angle(one, middle, other) for thing in rest)


def angle(one, thing, other):
    """The angle at which one object sees two others, in degrees; 180 in the middle of their line."""
    to_one, to_other = (np.subtract(each.center, thing.center) for each in (one, other))
    return np.degrees(np.arccos(to_one @ to_other / np.linalg.norm(to_one) / np.linalg.norm(to_other)))


def test_counts_are_right_and_sometimes_nothing():
    numbers = {"no": 0, "one": 1, "two": 2, "three": 3, "four": 4}
    seen = set()
    for objects, question, answer in asked("count", count=200):
        noun = question.split()[2]
        count = sum(plural(thing.noun) == noun for thing in objects)
        assert numbers[answer.split()[2]] == count
        seen.add(count)
    assert {0, 1, 2} <= seen


@pytest.mark.parametrize("style", ["free", "photographs"])
def test_presence_is_balanced_and_true(style):
    answers = []
    for objects, question, answer in asked("presence", style, count=300):
        name = question.rstrip("?").split(maxsplit=3)[-1]
        assert answer.startswith("Yes") == bool(named(objects, name))
        answers.append(answer.startswith("Yes"))
    assert np.mean(answers) == pytest.approx(0.5, abs=0.1)


def test_the_larger_one_is_larger_beyond_doubt():
    for objects, question, answer in asked("size", count=200):
        first, second = question.rstrip("?").split(", the ")[1].split(" or the ")
        (one,), (other,) = named(objects, first), named(objects, second)
        chosen = max if "larger" in question else min
        pixels = {thing: np.count_nonzero(thing.mask()) for thing in (one, other)}
        assert answer.startswith(f"The {chosen(pixels, key=pixels.get).name} is ")
        assert max(pixels.values()) >= 1.25 * min(pixels.values())
        assert one.noun == other.noun
        assert (one.radius > other.radius) == (pixels[one] > pixels[other])


def test_captions_name_every_object_from_left_to_right():
    for objects, question, answer in asked("caption"):
        assert question == CAPTION
        assert answer == caption(objects)
        rest = answer
        for thing in sorted(objects, key=lambda thing: thing.center[0]):
            before, found, rest = rest.partition(thing.name)
            assert found
            assert not any(other.name in before for other in objects)


def test_the_tokenizer_knows_every_word():
    tokenizer = free_processor().tokenizer
    assert len(set(WORDS)) == len(WORDS)
    for style in STYLES:
        for number in range(40):
            scene = free_scene(f"{style}-0-train-{number}")
            for question, answer in scene.turns:
                ids = tokenizer(f"USER: {question} ASSISTANT: {answer}</s>")["input_ids"]
                assert tokenizer.unk_token_id not in ids, answer


def test_every_kind_is_asked_of_many_scenes():
    for kind in QUESTION_KINDS:
        assert len(list(asked(kind, count=300))) > 10, kind


def test_photographs_and_the_grid_do_not_have_all_kinds():
    assert set(QUESTION_KINDS) - set(question_kinds(STYLES["photographs"])) == {"color", "shape", "size"}
    assert question_kinds(STYLES["free"]) == tuple(QUESTION_KINDS)
    for style in ("photographs", "grid"):
        for kind in QUESTION_KINDS:
            assert any(asked(kind, style, 400)) == (kind in question_kinds(STYLES[style])), (style, kind)


def test_answers_say_when_there_is_nothing():
    assert is_negative_answer("No, there is no red circle.") and is_negative_answer("There are no rings.")
    assert not is_negative_answer("There is one ring.") and not is_negative_answer("Yes, there is a red ring.")
