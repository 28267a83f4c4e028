from fivl_hf.augment.expressions import Mention
from fivl_hf.augment.extractors.noun_phrases import NounPhraseExtractor
from fivl_hf.schema import Turn


def offline(question, answer):
    (found,) = NounPhraseExtractor().extract([Turn(question, answer)])
    return found


def test_offline_takes_noun_phrases_and_leaves_out_what_no_image_shows():
    found = offline("What?", "The image shows a red car and a variety of books on the left side.")
    assert [mention.text for mention in found.mentions] == ["red car", "books"]
    assert [item.text for item in found.rejected] == ["image", "variety", "left side"]


def test_offline_grounds_a_single_word_through_the_question():
    found = offline("Is there a snowboard in the image?", "yes")
    assert found.mentions == (Mention("snowboard", -1, -1),)
    assert offline("What animal is this?", "Dog").mentions == (Mention("Dog", 0, 3),)


def test_popes_questions_name_their_object_whole():
    """Also where the tagger takes it for an adjective."""
    for name in ("remote", "hair drier", "hot dog", "stop sign"):
        assert offline(f"Is there a {name} in the image?", "no").mentions == (Mention(name, -1, -1),)
    found = offline("Is there a dog and a cat in the image?", "no")
    assert [mention.text for mention in found.mentions] == ["dog", "cat"]
