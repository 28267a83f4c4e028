"""Key-expression extractors: a question and its answer in, the words of the answer that need the image out."""

from dataclasses import dataclass
from typing import Protocol

from fivl_hf.keywords import noun_phrases

__all__ = ["Extractor", "Mention", "NounPhraseExtractor"]


@dataclass(frozen=True)
class Mention:
    """A key expression as it stands in an answer: ``answer[start:end] == text``."""

    text: str
    start: int
    end: int


class Extractor(Protocol):
    """Finds the key expressions of one question-answer pair."""

    def extract(self, question: str, answer: str) -> list[Mention]: ...


class NounPhraseExtractor:
    """Every noun phrase of the answer without its article, offline (the tagger's model ships in its wheel)."""

    def extract(self, question: str, answer: str) -> list[Mention]:
        return [Mention(answer[start:end], start, end) for start, end in noun_phrases(answer)]
