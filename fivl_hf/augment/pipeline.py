"""From conversations to FiVL rows: extract, ground, check. Nothing is lost without a reason."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fivl_hf.augment.expressions import Extractor
from fivl_hf.augment.grounding import Conversation, Grounder
from fivl_hf.images import as_encoded
from fivl_hf.keywords import nouns
from fivl_hf.masks import encode_mask
from fivl_hf.schema import KeyExpression, RowError, conversation_turns, validate_row

__all__ = ["Drop", "Tally", "augment", "build_row"]


@dataclass(frozen=True)
class Drop:
    """Why a conversation became no row."""

    id: str
    reason: str


@dataclass
class Tally:
    """What became of everything read: ``kept + dropped == read``, always."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def augment(
    conversations: Iterable[Conversation],
    extractor: Extractor,
    grounder: Grounder,
    tally: Tally,
    tagger: str = "hanta",
) -> Iterator[dict[str, Any]]:
    """The rows of all conversations that have evidence; ``tally`` counts as they pass.

    Args:
        tagger: finds the nouns of expressions, see :func:`fivl_hf.keywords.nouns`.
    """
    for conversation in conversations:
        tally.read += 1
        row = build_row(conversation, extractor, grounder, tagger)
        if isinstance(row, Drop):
            tally.dropped[row.reason] += 1
            continue
        tally.kept += 1
        yield row


def build_row(
    conversation: Conversation, extractor: Extractor, grounder: Grounder, tagger: str = "hanta"
) -> dict[str, Any] | Drop:
    """One conversation as a checked FiVL row, or why it is none.

    Raises:
        RowError: the extractor or grounder returned what does not fit the schema.
    """
    try:
        turns, _ = conversation_turns(conversation.messages, conversation.id)
    except RowError:
        return Drop(conversation.id, "questions and answers do not take turns")
    mentions = [
        (number, mention)
        for number, turn in enumerate(turns)
        for mention in extractor.extract(turn.question, turn.answer)
    ]
    if not mentions:
        return Drop(conversation.id, "no key expression in any answer")
    groundings = grounder.ground(conversation, [mention.text for _, mention in mentions])
    grounded = [(turn, mention, found) for (turn, mention), found in zip(mentions, groundings, strict=True) if found]
    if not grounded:
        return Drop(conversation.id, "no key expression was found in the image")
    expressions = [
        KeyExpression(
            turn=turn,
            **vars(mention),
            keywords=nouns(mention.text, tagger),
            boxes=found.boxes,
            score=found.score,
            image=found.image,
        )
        for turn, mention, found in grounded
    ]
    row = {
        "id": conversation.id,
        "images": [as_encoded(picture) for picture in conversation.images],
        "messages": list(conversation.messages),
        "key_expressions": [expression.to_dict() for expression in expressions],
        "masks": [as_encoded(encode_mask(found.mask)) for _, _, found in grounded],
        "source": conversation.source,
    }
    validate_row(row)
    return row
