"""The offline extractor: every noun phrase, without a language model."""

import re
from collections.abc import Iterable, Sequence

from fivl_hf.augment.expressions import Extraction, Mention, Rejected, is_single_word
from fivl_hf.augment.extractors.concreteness import concreteness
from fivl_hf.keywords import noun_phrases
from fivl_hf.schema import Turn

__all__ = ["CONCRETE", "NounPhraseExtractor"]

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

# Below this rating nouns are abstract; roles of people ("guest", "customer") begin just above it
# (examples/ablations/key_expressions.py).
CONCRETE = 3.7

# POPE's questions. The tagger takes some of their objects for adjectives: a remote, a hair drier.
_IS_THERE = re.compile(r"is there an? (\w+(?: \w+){0,2}) in the image\?", re.IGNORECASE)


class NounPhraseExtractor:
    """Every noun phrase of the answer without its article, offline (the tagger's model ships in its wheel).

    The phrases of the question are taken for an answer of a single word that names nothing visible ("Yes", "3").
    Phrases are left out whose last noun is on a short list of words that name nothing to be seen in an image (the image
    itself, places in it, amounts, properties, times, thoughts), or whose head noun people rate as abstract ("trick",
    "consequence"; see :mod:`fivl_hf.augment.extractors.concreteness`).

    Args:
        questions_too: take the phrases of every question as well, as for a benchmark's, whose answers name little.
        concrete: the lowest rating of a head noun that may show in an image; 0 takes all of them.
    """

    def __init__(self, questions_too: bool = False, concrete: float = CONCRETE) -> None:
        self._questions_too = questions_too
        self._concrete = concrete

    def extract(self, turns: Sequence[Turn]) -> list[Extraction]:
        return [self._turn(turn) for turn in turns]

    def _turn(self, turn: Turn) -> Extraction:
        of_answer = _sort_out(turn.answer, noun_phrases(turn.answer), self._concrete)
        alone = is_single_word(turn.answer) and not of_answer.mentions
        if not alone and not self._questions_too:
            return of_answer
        of_question = _of_question(turn.question, self._concrete)
        named = {mention.text.casefold() for mention in of_answer.mentions}
        more = tuple(Mention(each.text, -1, -1) for each in of_question.mentions if each.text.casefold() not in named)
        return Extraction(of_answer.mentions + more, of_answer.rejected + of_question.rejected)


def _of_question(question: str, concrete: float) -> Extraction:
    """Return the noun phrases of a question; of POPE's "Is there a dog in the image?" the object, whatever it is."""
    match = _IS_THERE.fullmatch(question)
    if match and not {"and", "or"} & set(match[1].split()):
        return Extraction((Mention(match[1], *match.span(1)),), ())
    return _sort_out(question, noun_phrases(question), concrete)


def _sort_out(text: str, spans: Iterable[tuple[int, int]], concrete: float) -> Extraction:
    mentions, rejected = [], []
    for start, end in spans:
        phrase = text[start:end]
        if reason := _reason_to_reject(phrase, concrete):
            rejected.append(Rejected(phrase, reason))
        else:
            mentions.append(Mention(phrase, start, end))
    return Extraction(tuple(mentions), tuple(rejected))


def _reason_to_reject(phrase: str, concrete: float) -> str | None:
    if _UNSEEN.fullmatch(phrase.split()[-1].casefold()):
        return "it does not show in an image"
    rating = concreteness(phrase)
    return "its noun is abstract" if rating is not None and rating < concrete else None
