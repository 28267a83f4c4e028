"""Key-expression extractors: questions and answers in, the words that need the image out (arXiv 2412.14672).

What a language model proposes passes the paper's rules: :func:`check_expressions`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from fivl_hf.schema import Turn

__all__ = [
    "TOO_LONG",
    "ExpressionCheck",
    "Extraction",
    "Extractor",
    "Mention",
    "ProtocolName",
    "Rejected",
    "check_expressions",
    "is_extractable",
    "is_single_word",
]

# Whether rules are those of the paper and its released code, or ours; docs/paper.md lists the differences.
ProtocolName = Literal["default", "paper"]

_REFUSALS = re.compile(
    r"(?:none|n/?a|nil|null|(?:there are )?no (?:key |visual )?(?:expressions?|tokens?|words?)\b.*)",
    re.IGNORECASE | re.DOTALL,
)
# What only talks about the task: "visual tokens", "the visual token".
_ABOUT_THE_TASK = re.compile(r"(?:the |a )?(?:visual )?tokens?|(?:the )?visual(?:s| expressions?)?", re.IGNORECASE)
# In any place of an entry, by the released code of arXiv 2412.14672.
_PAPERS_REFUSALS = ("none", "None", "token", "visual", "N/A", "No expressions")
_EDGES = " \t\r\n*.,;:!?-–•"
# Pairs of quotes; an apostrophe inside a word is none.
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’"}
_QUOTE = re.compile("(?<!\\w)[\"'`“”‘’]|[\"'`“”‘’](?!\\w)")
_WORD = re.compile(r"[^\W_]+(?:['’.,-][^\W_]+)*")
_ARTICLE = re.compile(r"(?:the|an?)\s+", re.IGNORECASE)
_MAX_EXPRESSION = 200
# Models write one kind of apostrophe where people wrote another.
_PLAIN_QUOTES = str.maketrans("‘’“”", "''\"\"")
# Thai to Burmese, Khmer, Japanese and Chinese are written without spaces between words.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True)
class Mention:
    """A key expression: ``answer[start:end] == text``, or words of the question when ``start`` is -1.

    Attributes:
        prompt: the words that a grounder looks for, where they are not the text.
    """

    text: str
    start: int
    end: int
    prompt: str = ""


@dataclass(frozen=True)
class Rejected:
    """A proposed expression that was rejected, and why. ``text`` is what was proposed, empty for a whole reply."""

    text: str
    reason: str


@dataclass(frozen=True)
class Extraction:
    """The key expressions of one question and answer, and the proposals that were rejected."""

    mentions: tuple[Mention, ...] = ()
    rejected: tuple[Rejected, ...] = ()


# Longer answers are not worth their tokens: nobody writes them about an image.
MAX_ANSWER = 20_000
TOO_LONG = Extraction(rejected=(Rejected("", f"the answer has more than {MAX_ANSWER:,} characters"),))


def is_extractable(turn: Turn) -> bool:
    """Return whether expressions are looked for in a turn; if not, its extraction is ``TOO_LONG``."""
    return len(turn.answer) <= MAX_ANSWER


class Extractor(Protocol):
    """Finds the key expressions of question-answer pairs: one extraction for each turn, in order."""

    def extract(self, turns: Sequence[Turn]) -> list[Extraction]: ...


def is_single_word(answer: str) -> bool:
    """Return whether a whole answer is one word or number: its expressions may then come from the question."""
    words = _WORD.findall(answer)
    # In a script without spaces, what looks like one long word is a sentence.
    return len(words) == 1 and not (len(words[0]) > 4 and _UNSPACED.search(words[0]))


class ExpressionCheck:
    """Sorts what is proposed for one turn, one by one.

    By default, what is in the answer, word for word, is kept; case and a leading article may differ, and a plural may
    stand for its singular, the answer's form is taken. The second proposal of the same words is their second place. For
    an answer of a single word, words of the question are kept, too.

    Under the paper's protocol, as its released code does, whatever is a part of the answer, letter by letter and also
    inside a word, is kept, unless it has one of a few refusals in it ("subway token" is lost). For an answer of a
    single word, everything else is kept, too: it is looked for in the image as it stands, but named by the answer.
    """

    def __init__(self, turn: Turn, protocol: ProtocolName = "default") -> None:
        self._turn, self._protocol = turn, protocol
        self._cursors: dict[str, int] = {}

    def place(self, raw: str) -> Mention | Rejected:
        """Locate a proposed expression, or say why it is rejected."""
        return self._as_in_the_paper(raw) if self._protocol == "paper" else self._in_words(raw)

    def _as_in_the_paper(self, raw: str) -> Mention | Rejected:
        text, turn = raw.strip(), self._turn
        if not text or len(text) > _MAX_EXPRESSION:
            return Rejected(raw[:_MAX_EXPRESSION], "empty" if not text else f"longer than {_MAX_EXPRESSION} characters")
        if any(refusal in text for refusal in _PAPERS_REFUSALS):
            return Rejected(text, "a refusal, by the paper's list")
        start = turn.answer.find(text, self._cursors.get(text, 0))
        if start >= 0:
            self._cursors[text] = start + len(text)
            return Mention(text, start, start + len(text))
        if text in self._cursors:
            return Rejected(text, "named more often than the answer has it")
        if is_single_word(turn.answer):
            self._cursors[text] = len(turn.answer)
            word = turn.answer.strip()
            start = turn.answer.index(word)
            return Mention(word, start, start + len(word), prompt=text)
        return Rejected(text, "not in the answer")

    def _in_words(self, raw: str) -> Mention | Rejected:
        text = _trimmed(raw)
        if problem := _problem(text):
            return Rejected(raw[:_MAX_EXPRESSION], problem)
        text, turn = self._with_the_answers_article(text), self._turn
        key = text.casefold()
        if place := _find(text, turn.answer, self._cursors.get(key, 0)):
            self._cursors[key] = place[1]
            return Mention(turn.answer[slice(*place)], *place)
        if key in self._cursors:
            return Rejected(text, "named more often than the answer has it")
        if is_single_word(turn.answer) and (place := _find(text, turn.question)):
            self._cursors[key] = len(turn.answer)
            return Mention(turn.question[slice(*place)], -1, -1)
        return Rejected(text, "not in the answer")

    def _with_the_answers_article(self, text: str) -> str:
        """Return "red circle" for a model's "the red circle" where the answer has it with another article or none."""
        article = _ARTICLE.match(text)
        bare = text[article.end() :] if article else ""
        return bare if bare and not _find(text, self._turn.answer) and _find(bare, self._turn.answer) else text


def check_expressions(proposed: Iterable[str], turn: Turn, protocol: ProtocolName = "default") -> Extraction:
    """Sort proposed expressions into those that :class:`ExpressionCheck` keeps and those that it does not."""
    check = ExpressionCheck(turn, protocol)
    found = [check.place(raw) for raw in proposed]
    return Extraction(
        tuple(item for item in found if isinstance(item, Mention)),
        tuple(item for item in found if isinstance(item, Rejected)),
    )


def _trimmed(raw: str) -> str:
    """Return a proposed expression without what surrounds it: white space, punctuation, quotes around the whole of it.

    Quotes that belong to a part of it stay: ``'red' car``.
    """
    text = raw.strip(_EDGES)
    while text and (text[0] in _QUOTES or text[-1] in _QUOTES.values()):
        outer = (text[0], _QUOTES[text[0]]) if text[0] in _QUOTES else (text[-1],)
        places = [match.start() for match in _QUOTE.finditer(text) if match.group() in outer]
        if len(places) == 1:
            text = text[1:] if places == [0] else text[:-1]
        elif places == [0, len(text) - 1]:
            text = text[1:-1]
        else:
            break
        text = text.strip(_EDGES)
    return text


def _problem(text: str) -> str | None:
    if not text:
        return "empty"
    if len(text) > _MAX_EXPRESSION:
        return f"longer than {_MAX_EXPRESSION} characters"
    if _REFUSALS.fullmatch(text):
        return "a refusal"
    if _ABOUT_THE_TASK.fullmatch(text):
        return "about the task, not the image"
    return None


def _find(text: str, inside: str, start: int = 0) -> tuple[int, int] | None:
    """Find ``text``, as whole words if its script has spaces: in the same case if possible, in any case, or plural."""
    before = "" if _UNSPACED.match(text[0]) else r"(?<!\w)"
    after = "" if _UNSPACED.match(text[-1]) else r"(?!\w)"
    pattern = f"{before}{re.escape(text.translate(_PLAIN_QUOTES))}{after}"
    inside = inside.translate(_PLAIN_QUOTES)
    plural = f"{before}{re.escape(text.translate(_PLAIN_QUOTES))}e?s{after}"
    for each, flags in ((pattern, 0), (pattern, re.IGNORECASE), (plural, re.IGNORECASE)):
        if found := re.compile(each, flags).search(inside, start):
            return found.span()
    return None
