import numpy as np
import pytest
from PIL import Image

from fivl_hf.augment.expressions import Mention, NounPhraseExtractor
from fivl_hf.augment.grounding import Conversation, Grounding
from fivl_hf.augment.pipeline import Drop, Tally, augment, build_row
from fivl_hf.images import image_bytes
from fivl_hf.schema import RowError, validate_row


class Everywhere:
    """Grounds every expression but "ghost" on the left half."""

    def ground(self, conversation, expressions):
        mask = np.zeros((4, 6), dtype=bool)
        mask[:, :3] = True
        found = Grounding(mask, ((0.0, 0.0, 3.0, 4.0),), 0.9)
        return [None if "ghost" in text else found for text in expressions]


def talk(*answers, id="c1"):
    messages = [{"role": "system", "content": "Be brief."}]
    for answer in answers:
        messages += [{"role": "user", "content": "What?"}, {"role": "assistant", "content": answer}]
    return Conversation(id, (image_bytes(Image.new("RGB", (6, 4))),), tuple(messages), "test")


def test_noun_phrases_keep_their_place():
    mentions = NounPhraseExtractor().extract("What?", "A red car and a red car.")
    assert mentions == [Mention("red car", 2, 9), Mention("red car", 16, 23)]


def test_a_row_keeps_pictures_turns_and_evidence():
    conversation = talk("A red car.", "Two dogs and a ghost.")
    row = build_row(conversation, NounPhraseExtractor(), Everywhere())
    view = validate_row(row)
    assert [(e.turn, e.text, e.keywords) for e in view.key_expressions] == [
        (0, "red car", ("car",)),
        (1, "Two dogs", ("dogs",)),
    ]
    assert row["images"][0]["bytes"] == conversation.images[0]
    assert view.system == "Be brief."


def test_nothing_is_lost_without_a_reason():
    tally = Tally()
    unanswered = Conversation("c4", talk("A car.").images, talk("A car.").messages[:-1], "test")
    talks = [talk("A car."), talk("Quickly!", id="c2"), talk("A ghost.", id="c3"), unanswered]
    rows = list(augment(talks, NounPhraseExtractor(), Everywhere(), tally))
    assert [row["id"] for row in rows] == ["c1"]
    assert tally.read == 4 == tally.kept + sum(tally.dropped.values())
    assert set(tally.dropped) == {
        "no key expression in any answer",
        "no key expression was found in the image",
        "questions and answers do not take turns",
    }
    assert isinstance(build_row(talks[1], NounPhraseExtractor(), Everywhere()), Drop)


def test_a_grounder_that_breaks_the_schema_is_stopped():
    class Wrong(Everywhere):
        def ground(self, conversation, expressions):
            return [Grounding(np.ones((5, 5), dtype=bool), ((0.0, 0.0, 3.0, 4.0),)) for _ in expressions]

    with pytest.raises(RowError, match=r"row 'c1'.*masks\[0\].*6x4, found 5x5"):
        build_row(talk("A car."), NounPhraseExtractor(), Wrong())
