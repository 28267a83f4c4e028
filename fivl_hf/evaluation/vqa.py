"""The normal form in which VQA's evaluation compares answers (VQAEval of the VQA API)."""

import re
from itertools import chain

__all__ = ["vqa_form"]

_ARTICLES = {"a", "an", "the"}
_NUMBERS = {"none": "0"} | {
    name: str(number)
    for number, name in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
}
# The words that contractions of each ending begin with.
_STEMS = {
    "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
    "n't've": "could had might should would",
    "'ve": "could might must not should they we what where who would you",
    "'d": "he how it someone something there they where who you",
    "'d've": "he it she somebody someone something there they we who you",
    "'ll": "how it somebody someone something they what who why you",
    "'re": "there they what why you",
    "'s": "he how somebody someone that there what when where who why",
}
_OTHERS = ("ma'am", "o'clock", "y'all", "y'all'll", "y'all'd've", "'twas", "'ow's'at")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")


def vqa_form(text: str) -> str:
    """Return an answer in VQA's normal form: lower case, no articles, digits for numbers up to ten, no punctuation.

    Punctuation becomes a space, or nothing where it stands beside a space or where the answer has a number with commas;
    periods before a digit, apostrophes, colons and signs such as % and $ stay. Contractions get their apostrophe back.
    """
    plain = spaced = re.sub(r"[\n\t]", " ", text).strip()
    for mark in _PUNCTUATION:
        joined = f"{mark} " in spaced or f" {mark}" in spaced or _COMMA_IN_NUMBER.search(spaced)
        plain = plain.replace(mark, "" if joined else " ")
    numbered = (_NUMBERS.get(word, word) for word in _PERIOD.sub("", plain).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in numbered if word not in _ARTICLES)


def _contractions() -> dict[str, str]:
    """Return contractions by what they are when one of their apostrophes is left out."""
    known = chain((stem + ending for ending, stems in _STEMS.items() for stem in stems.split()), _OTHERS)
    without_one = {
        word[:place] + word[place + 1 :]: word for word in known for place, sign in enumerate(word) if sign == "'"
    }
    # The one entry of VQA's own table that takes an apostrophe away.
    return without_one | {"somebody'd": "somebodyd"}


_CONTRACTIONS = _contractions()
