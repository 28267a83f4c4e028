from fivl_hf.augment.grounders.annotations import AnnotatedObject, matching_objects
from fivl_hf.augment.grounders.coco_names import SYNONYMS


def test_a_word_names_one_category():
    """An image's "bike" must not be grounded in what is not meant: no word is given to two categories."""
    words = [word for names in SYNONYMS.values() for word in names]
    assert len(words) == len(set(words))
    assert not set(words) & set(SYNONYMS)


def test_every_synonym_finds_its_category():
    for category, words in SYNONYMS.items():
        thing = AnnotatedObject(category, (), [[0, 0, 1, 0, 1, 1]], (4, 4))
        assert all(matching_objects(f"the {word}", [thing]) == [thing] for word in words), category
