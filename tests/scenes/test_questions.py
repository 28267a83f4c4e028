"""Every answer is checked against the objects by other rules than those that wrote it."""

import numpy as np
import pytest

from fivl_hf.scenes.free import free_scene
from fivl_hf.scenes.model import free_processor
from fivl_hf.scenes.questions import CAPTION, QUESTION_KINDS, WORDS, ask, caption, is_absent, kinds_of, plural
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
    """Nothing else is, and there is something else."""
    for objects, question, answer in asked("between", count=400):
        first, second = question.rstrip("?").split("between the ")[1].split(" and the ")
        (one,), (other,) = named(objects, first), named(objects, second)
        rest = [thing for thing in objects if thing is not one and thing is not other]
        places = np.array([[one.center, thing.center, other.center] for thing in rest])  # (objects, 3, axes)
        inside = (np.median(places, axis=1) == places[:, 1]).any(axis=1)
        assert [thing.name for thing, there in zip(rest, inside, strict=True) if there] == [name_in(answer)]
        assert len(rest) > 1


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
        assert max(pixels.values()) >= 1.5 * min(pixels.values())


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
        assert len(list(asked(kind, count=150))) > 10, kind


def test_photographs_have_no_colours_or_shapes_to_ask_for():
    assert set(QUESTION_KINDS) - set(kinds_of(STYLES["photographs"])) == {"color", "shape"}
    assert kinds_of(STYLES["free"]) == tuple(QUESTION_KINDS)
    for kind in QUESTION_KINDS:
        assert any(asked(kind, "photographs", 400)) == (kind in kinds_of(STYLES["photographs"]))


def test_answers_say_when_there_is_nothing():
    assert is_absent("No, there is no red circle.") and is_absent("There are no rings.")
    assert not is_absent("There is one ring.") and not is_absent("Yes, there is a red ring.")
