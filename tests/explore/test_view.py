import pytest

from fivl_hf.explore.examples import choose_examples
from fivl_hf.explore.view import Asked, Choices, render_answers
from fivl_hf.images import open_rgb

NOTHING = {"layer": 0, "head": -1}


@pytest.fixture
def asked(explorer, rows):
    (example,) = choose_examples(rows[:1], 1)
    return Asked((explorer.ask(open_rgb(example.image), example.question),), example)


def test_choices_are_read_and_kept_in_bounds(explorer, asked):
    raw = {
        "layer": 99,
        "head": 99,
        "words": {"0": 1},
        "patch": [3, 4],
        "box": [-5, 2, 1, 99],
        "how": "blur",
        "compareRandom": 1,
    }
    choices = Choices.read(raw, asked, [explorer])
    assert (choices.layer, choices.head) == (explorer.layers - 1, explorer.heads - 1)
    assert choices.box == (0, 2, 1, 40)
    assert choices.words == {0: 1}
    assert choices.compare_random
    assert Choices.read({"layer": -3, "head": -7}, asked, [explorer]).head == -1
    for wrong in ({"how": "burn"}, {"box": [1, 2]}, {"patch": ["x", 1]}, {"words": {"0": "a"}}):
        with pytest.raises((ValueError, TypeError)):
            Choices.read({**NOTHING, **wrong}, asked, [explorer])
    with pytest.raises(KeyError):
        Choices.read({}, asked, [explorer])


def test_every_part_is_shown_when_it_is_chosen(explorer, asked):
    def page(**more):
        return render_answers([explorer], asked, Choices.read({**NOTHING, **more}, asked, [explorer]))

    first = page()
    assert "The dataset answers: " in first
    assert "mean of the heads of layer 0" in first
    assert "Predictions of this patch" not in first
    assert "Answer with the box changed: black out" in first  # the evidence
    assert "Framed now: the evidence" in first
    assert "20 random boxes" not in first
    assert "head 2 of layer 1" in page(layer=1, head=2)
    assert "if the model ended after layer 1" in page(layer=1, patch=[5, 5])
    assert "No visual token sees this place." in page(patch=[500, 5])
    assert "Answer with the box changed: blur" in page(how="blur", box=[0, 0, 9, 9])
    assert "20 random boxes" in page(compareRandom=True)


def test_texts_are_escaped_and_a_question_of_ones_own_has_no_evidence(explorer, asked):
    own = Asked((explorer.ask(asked.answers[0].image, "<b>What</b>?"),))
    page = render_answers([explorer], own, Choices.read(NOTHING, own, [explorer]))
    assert "<b>What" not in page
    assert "The dataset answers" not in page
    assert "Answer with the box" not in page


def test_two_models_stand_side_by_side(explorer, asked):
    both = Asked((asked.answers[0], asked.answers[0]), asked.example)
    choices = Choices.read({**NOTHING, "words": {"1": 0}}, both, [explorer, explorer])
    page = render_answers([explorer, explorer], both, choices)
    assert page.count('<section class="model"') == 2
    second = page.split('<section class="model"')[2]
    assert second.count('aria-pressed="true"') == 1
    assert 'data-word="0" aria-pressed="true"' in second
