"""From an expression to what the model can be taught: its nouns, their token ids, and where its tokens stand."""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "expression_kinds",
    "head_noun",
    "is_content_word",
    "lemmas",
    "noun_phrases",
    "nouns",
    "span_tokens",
    "word_token_id",
]

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
# In "a bowl of fruit" or "the man with a hat" the head stands before the preposition.
_PREPOSITION = re.compile(
    r"\b(?:of|with|in|on|at|by|for|from|near|under|over|behind|beside|between|without|inside|to)\b",
    re.IGNORECASE,
)

# The tagger is given at most this many letters of a word, the last ones.
_LONGEST = 40
# The tagger takes some for nouns: "It's", "it", "don't", the first half of "upside down".
_NEVER_NOUN = re.compile(
    r"(?:i|you|he|she|it|we|they|me|him|her|us|them|this|that|these|those|there|here|what|who|where|how|let)"
    r"(?:['’](?:s|m|re|ve|ll|d))?|\w+n['’]t|upside",
    re.IGNORECASE,
)

# How the tagger's names begin; auxiliary verbs have others, prepositions are "PRF" and "PRP".
_ADJECTIVE, _NUMBER, _VERB = "AJ", "CR", "VV"
_BEFORE_NOUNS = (_ADJECTIVE, _NUMBER)
_NOUNS = ("NOUN", "PROPN")


def nouns(expression: str, tagger: str = "hanta", *, proper: bool = True) -> tuple[str, ...]:
    """Return the nouns of an expression in order, as written (the paper: the candidates for its keyword).

    Common nouns are preferred; proper nouns count when there is no common one. The paper never counts them.

    Args:
        tagger: ``"hanta"`` (offline, its model ships in the wheel) or ``"spacy"`` (``en_core_web_sm``; install
            ``fivl-hf[spacy]`` and the model).
        proper: whether proper nouns count.

    Raises:
        ValueError: there is no such tagger.
        ImportError: spaCy or its model is not installed.
    """
    taggers = {"hanta": _tag_hanta, "spacy": _tag_spacy}
    if tagger not in taggers:
        raise ValueError(f"tagger must be one of {tuple(taggers)}, got {tagger!r}")
    tagged = taggers[tagger](expression)
    common = tuple(word for word, tag in tagged if tag == "NOUN")
    return common or tuple(word for word, tag in tagged if tag == "PROPN" and proper)


def expression_kinds(expression: str) -> tuple[str, ...]:
    """Return the kinds of an expression.

    One of "common noun", "proper noun" and "no noun"; then any of "compound" (two nouns in a row), "with an adjective",
    "with a number".
    """
    tags = [tag for _, tag in _tag_hanta(expression)]
    noun = "common noun" if "NOUN" in tags else "proper noun" if "PROPN" in tags else "no noun"
    more = {
        "compound": any(pair[0] in _NOUNS and pair[1] in _NOUNS for pair in pairwise(tags)),
        "with an adjective": any(tag.startswith(_ADJECTIVE) for tag in tags),
        "with a number": any(tag.startswith(_NUMBER) for tag in tags),
    }
    return (noun, *(kind for kind, holds in more.items() if holds))


def is_content_word(word: str) -> bool:
    """Return whether a word, seen alone, can name something: a noun, an adjective, a verb or a number.

    Articles, pronouns, prepositions, conjunctions, auxiliary verbs and adverbs cannot.
    """
    tagged = _tag_hanta(word)
    return bool(tagged) and all(tag in _NOUNS or tag.startswith((_ADJECTIVE, _NUMBER, _VERB)) for _, tag in tagged)


def lemmas(text: str) -> tuple[tuple[str, str], ...]:
    """Return the words of a text and their dictionary forms, lower case, in order: ("women", "woman")."""
    words = _WORD.findall(text)
    return tuple((word.casefold(), lemma.casefold()) for word, lemma, _ in _tagged(words))


def noun_phrases(text: str) -> list[tuple[int, int]]:
    """Return character spans of the noun phrases of a text without their articles: adjectives and numbers before nouns.

    Adjectives, or numbers, may be joined: "tan and black cat", "red, white and blue flag", "two or three dogs".
    """
    words = list(zip(_WORD.finditer(text), (tag for _, tag in _tag_hanta(text)), strict=True))
    spans: list[tuple[int, int]] = []
    run: list[tuple[re.Match[str], str]] = []
    commas_join = False
    for number, (match, tag) in enumerate(words):
        if run and not _continues(text, run[-1], match, commas_join):
            spans += _phrase(run)
            run = []
        if not run:
            # After a form of "be" the adjective is a predicate, which a comma ends: "the wall is blue, red apples ...".
            commas_join = not (number and words[number - 1][1].startswith("VB"))
        # A conjunction between two adjectives, or two numbers, belongs to the phrase as they do.
        if (
            tag == "CJC"
            and run
            and number + 1 < len(words)
            and words[number + 1][1][:2] == run[-1][1][:2] in _BEFORE_NOUNS
        ):
            tag = run[-1][1]
        if _in_phrase(tag):
            run.append((match, tag))
        else:
            spans += _phrase(run)
            run = []
    return spans + _phrase(run)


def _continues(text: str, last: tuple[re.Match[str], str], match: re.Match[str], commas_join: bool) -> bool:
    """Return whether only white space, or a comma in a list of adjectives, is between a phrase and a word."""
    between = text[last[0].end() : match.start()]
    return between.isspace() or (commas_join and last[1].startswith("AJ") and between.strip() == ",")


def _phrase(run: list[tuple[re.Match[str], str]]) -> list[tuple[int, int]]:
    """Return the span of a run of words up to its last noun; none if it has no noun."""
    ends = [match.end() for match, tag in run if tag in _NOUNS]
    return [(run[0][0].start(), ends[-1])] if ends else []


def _in_phrase(tag: str) -> bool:
    return tag in _NOUNS or tag.startswith(_BEFORE_NOUNS)


def head_noun(expression: str, keywords: Sequence[str]) -> str | None:
    """Return the keyword that names the thing: the last before the first preposition ("bowl" in "bowl of fruit")."""
    if not keywords:
        return None
    preposition = _PREPOSITION.search(expression)
    before = expression[: preposition.start()] if preposition else expression
    named = [word for word in keywords if re.search(rf"\b{re.escape(word)}\b", before)]
    return (named or list(keywords))[-1]


def word_token_id(tokenizer: Any, word: str) -> int | None:
    """Return the id of the first sub-token of ``word`` as it is written inside a sentence.

    The word is tokenized after another word, so that a leading space, "▁" or "Ġ" falls where the tokenizer puts it.
    None if the tokenizer does not know the word's first piece (it gives its unknown token) or the word is empty.
    """
    if not word.strip():
        return None
    context = "the "
    if getattr(tokenizer, "is_fast", False):
        encoded = tokenizer(context + word, add_special_tokens=False, return_offsets_mapping=True)
        within = [
            i for i, (_, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True) if end > len(context)
        ]
    else:
        prefix = tokenizer.encode(context.strip(), add_special_tokens=False)
        within = tokenizer.encode(context + word, add_special_tokens=False)[len(prefix) :]
    return within[0] if within and within[0] != tokenizer.unk_token_id else None


def span_tokens(offsets: ArrayLike, start: int, end: int) -> NDArray[np.intp]:
    """Return indices of the tokens that overlap the characters [start, end).

    Args:
        offsets: (T, 2) character span of each token; zero-width tokens (padding, added specials) never match.
        start, end: the span, in characters of the same text.
    """
    spans = np.asarray(offsets).reshape(-1, 2)
    return np.flatnonzero((spans[:, 0] < end) & (spans[:, 1] > start) & (spans[:, 1] > spans[:, 0]))


@cache
def _hanta() -> Any:
    from HanTa.HanoverTagger import HanoverTagger

    return HanoverTagger("morphmodel_en.pgz")


@lru_cache(maxsize=65536)
def _tag_hanta(expression: str) -> tuple[tuple[str, str], ...]:
    words = _WORD.findall(expression)
    return tuple((word, _kind(word, tag)) for word, (_, _, tag) in zip(words, _tagged(words), strict=True))


def _tagged(words: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return word, dictionary form and tag of each word of a sentence.

    The tagger's time grows with the square of a word's length: of longer ones it sees the end, by which it knows kinds.
    """
    return list(_hanta().tag_sent([word[-_LONGEST:] for word in words])) if words else []


def _kind(word: str, tag: str) -> str:
    if _NEVER_NOUN.fullmatch(word):
        return "OTHER"
    # A word that the tagger cannot classify ("UNC") is usually a noun: "the suv".
    return "PROPN" if tag.startswith("NP") else "NOUN" if tag.startswith(("NN", "UNC")) else tag


@cache
def _spacy() -> Any:
    try:
        import spacy

        return spacy.load("en_core_web_sm", disable=["parser", "ner", "lemmatizer"])
    except (ImportError, OSError) as error:
        raise ImportError(
            "the spaCy tagger needs `pip install fivl-hf[spacy]` and `python -m spacy download en_core_web_sm`"
        ) from error


@lru_cache(maxsize=65536)
def _tag_spacy(expression: str) -> tuple[tuple[str, str], ...]:
    return tuple((token.text, token.pos_) for token in _spacy()(expression))
