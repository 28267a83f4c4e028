"""The offline extractor: every noun phrase, without a language model."""

import re
from collections.abc import Iterable, Sequence

from fivl_hf.augment.expressions import Extraction, Mention, Rejected, is_single_word
from fivl_hf.keywords import noun_phrases
from fivl_hf.schema import Turn

__all__ = ["NounPhraseExtractor"]

# Heads of phrases that no detector can find in an image.
_UNSEEN = re.compile(
    # the image itself, and places in it
    "(?:image|picture|photo|photograph|scene|view|shot|background|foreground"
    "|side|left|right|top|bottom|middle|center|centre|front|back|edge|corner|end|part|area|position|place|location"
    # amounts and kinds
    "|kind|type|sort|way|lot|number|amount|variety|range|set|series|total|pair|one|other|none|case|order|addition"
    # properties, times, things without a name
    "|color|colour|shape|size|style|pattern|material|texture"
    "|time|day|moment|morning|evening|night|year|today|season|occasion|event|situation"
    "|thing|object|item|something|anything|everything|nothing"
    # what is in the mind
    "|fact|idea|reason|example|purpose|activity|action|experience|sense|feeling|mood|atmosphere|presence"
    "|question|answer|yes|no)s?"
)

# POPE's questions. The tagger takes some of their objects for adjectives: a remote, a hair drier.
_IS_THERE = re.compile(r"is there an? (\w+(?: \w+){0,2}) in the image\?", re.IGNORECASE)


class NounPhraseExtractor:
    """Every noun phrase of the answer without its article, offline (the tagger's model ships in its wheel).

    The phrases of the question are taken for an answer of a single word that names nothing visible ("Yes", "3").
    Phrases whose last noun is on a short list of words that name nothing to be seen in an image (the image itself,
    places in it, amounts, properties, times, thoughts) are left out.

    Args:
        questions_too: take the phrases of every question as well, as for a benchmark's, whose answers name little.
    """

    def __init__(self, questions_too: bool = False) -> None:
        self._questions_too = questions_too

    def extract(self, turns: Sequence[Turn]) -> list[Extraction]:
        return [self._turn(turn) for turn in turns]

    def _turn(self, turn: Turn) -> Extraction:
        found = _sort_out(turn.answer, noun_phrases(turn.answer))
        alone = is_single_word(turn.answer) and not found.mentions
        if not alone and not self._questions_too:
            return found
        asked = _sort_out(turn.question, _object_asked_for(turn.question) or noun_phrases(turn.question))
        named = {mention.text.casefold() for mention in found.mentions}
        more = tuple(Mention(each.text, -1, -1) for each in asked.mentions if each.text.casefold() not in named)
        return Extraction(found.mentions + more, found.rejected + asked.rejected)


def _object_asked_for(question: str) -> list[tuple[int, int]]:
    """Return the span of the object in POPE's "Is there a dog in the image?"; none for other questions."""
    match = _IS_THERE.fullmatch(question)
    return [match.span(1)] if match and not {"and", "or"} & set(match[1].split()) else []


def _sort_out(text: str, spans: Iterable[tuple[int, int]]) -> Extraction:
    mentions, rejected = [], []
    for start, end in spans:
        phrase = text[start:end]
        if _UNSEEN.fullmatch(phrase.split()[-1].casefold()):
            rejected.append(Rejected(phrase, "it does not show in an image"))
        else:
            mentions.append(Mention(phrase, start, end))
    return Extraction(tuple(mentions), tuple(rejected))
