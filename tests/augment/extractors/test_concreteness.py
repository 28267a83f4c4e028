import pytest

from fivl_hf.augment.extractors.concreteness import concreteness
from fivl_hf.augment.extractors.noun_phrases import CONCRETE, NounPhraseExtractor
from fivl_hf.scenes.photographs import CUT_OUTS
from fivl_hf.scenes.rendering import SHAPES as ALIGNED_SHAPES
from fivl_hf.scenes.styles import SHAPES
from fivl_hf.schema import Turn


def test_things_are_rated_above_thoughts():
    things = ["young woman", "red bus", "bowl of fruit", "two dogs", "street lights", "women", "guests"]
    thoughts = ["trick", "possible consequence", "potential damage", "sense of urgency", "opportunities", "purposes"]
    assert all(concreteness(phrase) >= CONCRETE for phrase in things)
    assert all(concreteness(phrase) < CONCRETE for phrase in thoughts)
    assert concreteness("frobnicator") is None


@pytest.mark.parametrize("noun", sorted({*SHAPES, *ALIGNED_SHAPES, *CUT_OUTS}))
def test_the_scenes_nouns_are_concrete(noun):
    assert concreteness(f"red {noun}") >= CONCRETE


def test_abstract_phrases_are_left_out_with_their_reason():
    turn = Turn("What may happen?", "A consequence is potential damage to the boats; it's a trick of the man.")
    (found,) = NounPhraseExtractor().extract([turn])
    assert [mention.text for mention in found.mentions] == ["boats", "man"]
    assert {(each.text, each.reason) for each in found.rejected} == {
        ("consequence", "its noun is abstract"),
        ("potential damage", "its noun is abstract"),
        ("trick", "its noun is abstract"),
    }
    (everything,) = NounPhraseExtractor(concrete=0).extract([turn])
    assert len(everything.mentions) == 5


def test_what_pope_asks_for_is_kept_however_it_is_rated():
    (found,) = NounPhraseExtractor().extract([Turn("Is there a trick in the image?", "Yes")])
    assert [mention.text for mention in found.mentions] == ["trick"]
