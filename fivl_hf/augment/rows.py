"""From conversations to FiVL rows: extract, ground, check. Nothing is lost without a reason."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from PIL import Image

from fivl_hf.augment.counts import row_counts
from fivl_hf.augment.expressions import TOO_LONG, Extraction, Extractor, Mention, ProtocolName, is_extractable
from fivl_hf.augment.grounding import Grounder, Grounding, GroundingRequest
from fivl_hf.augment.inputs.conversations import Conversation, Record
from fivl_hf.images import ImageError, as_encoded, open_rgb
from fivl_hf.jobs.outcomes import Drop, Failure, Tally
from fivl_hf.keywords import nouns
from fivl_hf.masks import encode_mask
from fivl_hf.schema import KeyExpression, RowError, Turn, conversation_turns, validate_row

__all__ = [
    "Outcome",
    "RejectedExpression",
    "RowMaker",
    "Sample",
    "Tools",
    "augment",
    "build_rows",
    "checked_row",
    "image_data",
    "turns_of",
]

# Samples, and pixels of their images, that are decoded and grounded together.
GROUP = 16
GROUP_PIXELS = 40_000_000


@dataclass(frozen=True)
class Sample:
    """A record, with its turns' extractions where they were asked for beforehand."""

    record: Record
    extractions: tuple[Extraction, ...] | None = None


class RowMaker(Protocol):
    """Turns samples into rows: one outcome per sample, in order."""

    def make(self, samples: Sequence[Sample]) -> list["Outcome"]: ...


@dataclass(frozen=True)
class Tools:
    """Turns samples into rows by extracting and grounding.

    Attributes:
        extractor: for samples without extractions.
        tagger: finds the nouns of expressions, see :func:`fivl_hf.keywords.nouns`.
        protocol: "paper" leaves proper nouns out.
    """

    extractor: Extractor
    grounder: Grounder
    tagger: str = "hanta"
    protocol: ProtocolName = "default"

    def make(self, samples: Sequence[Sample]) -> list["Outcome"]:
        return build_rows(samples, self)


@dataclass(frozen=True)
class RejectedExpression:
    """An expression that was proposed and did not become a key expression; empty for a turn without a usable reply."""

    turn: int
    text: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """The outcome of one sample.

    Attributes:
        result: a row, or why there is none.
        rejected: the expressions that were left out.
        coverage: of a row's masks, the share of its image that each covers.
        part: the part of the dataset that a row belongs to, where it has parts.
    """

    id: str
    result: dict[str, Any] | Drop | Failure
    rejected: tuple[RejectedExpression, ...] = ()
    coverage: tuple[float, ...] = ()
    part: str = ""

    def counts(self) -> dict[str, Counter[str]]:
        """Count a row's evidence under the headings of :mod:`fivl_hf.augment.counts`; nothing without a row."""
        return row_counts(self.result, self.coverage) if isinstance(self.result, dict) else {}

    def left_out(self) -> list[dict[str, Any]]:
        """Return an entry for each expression that was left out, and for each turn whose reply could not be used."""
        return [
            {
                "id": self.id,
                "kind": "expression" if each.text else "reply",
                "turn": each.turn,
                "text": each.text,
                "reason": each.reason,
            }
            for each in self.rejected
        ]


@dataclass(frozen=True)
class _Prepared:
    conversation: Conversation
    data: tuple[bytes, ...]
    images: tuple[Image.Image, ...]
    mentions: tuple[tuple[int, Mention], ...]
    rejected: tuple[RejectedExpression, ...]

    def request(self) -> GroundingRequest:
        expressions = tuple(mention.prompt or mention.text for _, mention in self.mentions)
        return GroundingRequest(self.conversation.id, self.images, self.conversation.images, expressions)


def augment(records: Iterable[Record], tools: Tools, tally: Tally | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of all conversations that have evidence; ``tally`` counts everything as it passes."""
    samples = (Sample(record) for record in records)
    while group := list(islice(samples, GROUP)):
        for outcome in build_rows(group, tools):
            if tally:
                tally.count(outcome.result)
            if isinstance(outcome.result, dict):
                yield outcome.result


def build_rows(samples: Sequence[Sample], tools: Tools) -> list[Outcome]:
    """Return one outcome per sample, in order: a checked FiVL row, a drop or a failure."""
    outcomes: list[Outcome] = []
    for prepared in _groups(_prepare(sample, tools.extractor) for sample in samples):
        ready = [item for item in prepared if isinstance(item, _Prepared)]
        grounded = iter(_ground(tools.grounder, [item.request() for item in ready]))
        outcomes += [_finish(item, next(grounded), tools) if isinstance(item, _Prepared) else item for item in prepared]
    return outcomes


def _groups(prepared: Iterable["_Prepared | Outcome"]) -> Iterator[list["_Prepared | Outcome"]]:
    """As many samples at a time as may have their images open."""
    group: list[_Prepared | Outcome] = []
    pixels = 0
    for item in prepared:
        group.append(item)
        pixels += sum(image.width * image.height for image in getattr(item, "images", ()))
        if len(group) >= GROUP or pixels >= GROUP_PIXELS:
            yield group
            group, pixels = [], 0
    if group:
        yield group


def _prepare(sample: Sample, extractor: Extractor) -> "_Prepared | Outcome":
    """Return a sample with its mentions found and its images opened, or why that is not possible."""
    record = sample.record
    if not isinstance(record, Conversation):
        return Outcome(record.id, record)
    turns = turns_of(record)
    if isinstance(turns, Drop):
        return Outcome(record.id, turns)
    if missing := _missing_image(record):
        return Outcome(record.id, missing)
    extractions = sample.extractions or _extract(extractor, turns)
    mentions = tuple((turn, mention) for turn, found in enumerate(extractions) for mention in found.mentions)
    rejected = tuple(
        RejectedExpression(turn, item.text, item.reason)
        for turn, found in enumerate(extractions)
        for item in found.rejected
    )
    if not mentions:
        return Outcome(record.id, Drop(record.id, "no key expression in any answer"), rejected)
    data = image_data(record)
    if isinstance(data, Failure):
        return Outcome(record.id, data, rejected)
    try:
        images = tuple(open_rgb(image) for image in data)
    except ImageError as error:
        names = ", ".join(image.name for image in record.images)
        return Outcome(record.id, Failure(record.id, "the image cannot be read", f"{names}: {error}"), rejected)
    return _Prepared(record, data, images, mentions, rejected)


def turns_of(record: Conversation) -> tuple[Turn, ...] | Drop:
    """Return the question-answer pairs of a conversation, or why it has none."""
    try:
        return conversation_turns(record.messages, record.id)[0]
    except RowError:
        return Drop(record.id, "questions and answers do not take turns")


def _missing_image(record: Conversation) -> Failure | None:
    missing = [image.name for image in record.images if not image.exists()]
    return Failure(record.id, "the image is missing", missing[0]) if missing else None


def image_data(record: Conversation) -> tuple[bytes, ...] | Failure:
    """Return the encoded bytes of a conversation's images, or what is wrong with them."""
    if missing := _missing_image(record):
        return missing
    try:
        return tuple(image.read() for image in record.images)
    except (ImageError, OSError) as error:
        return Failure(record.id, "the image cannot be read", str(error))


def _extract(extractor: Extractor, turns: Sequence[Turn]) -> list[Extraction]:
    found = iter(extractor.extract([turn for turn in turns if is_extractable(turn)]))
    return [next(found) if is_extractable(turn) else TOO_LONG for turn in turns]


def _ground(grounder: Grounder, requests: list[GroundingRequest]) -> list[list[Grounding | None] | str]:
    """Return groundings of each sample, or what went wrong with it: a group that fails is tried again in halves."""
    if not requests:
        return []
    try:
        return list(grounder.ground(requests))
    except ImportError:
        raise
    except Exception as error:
        # Models and libraries raise all sorts of things; the sample is kept as failed with what it was.
        if len(requests) == 1:
            return [f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"]
    middle = len(requests) // 2
    return _ground(grounder, requests[:middle]) + _ground(grounder, requests[middle:])


def _finish(item: _Prepared, groundings: list[Grounding | None] | str, tools: Tools) -> Outcome:
    """Return the row of a sample whose expressions were looked for."""
    id = item.conversation.id
    if isinstance(groundings, str):
        return Outcome(id, Failure(id, "grounding failed", groundings), item.rejected)
    found = [(turn, mention, at) for (turn, mention), at in zip(item.mentions, groundings, strict=True) if at]
    unseen = tuple(
        RejectedExpression(turn, mention.text, "nothing detected")
        for (turn, mention), at in zip(item.mentions, groundings, strict=True)
        if not at
    )
    rejected = item.rejected + unseen
    if not found:
        return Outcome(id, Drop(id, "no key expression was found in the image"), rejected)
    expressions = [
        KeyExpression(
            turn=turn,
            text=mention.text,
            start=mention.start,
            end=mention.end,
            keywords=nouns(mention.text, tools.tagger, proper=tools.protocol != "paper"),
            boxes=at.boxes,
            score=at.score,
            image=at.image,
        )
        for turn, mention, at in found
    ]
    row = checked_row(item.conversation, item.data, expressions, [encode_mask(at.mask) for _, _, at in found])
    return Outcome(id, row, rejected, tuple(float(at.mask.mean()) for _, _, at in found))


def checked_row(
    conversation: Conversation, data: Sequence[bytes], expressions: Sequence[KeyExpression], masks: Sequence[bytes]
) -> dict[str, Any] | Failure:
    """Return the row of a conversation with its evidence, checked.

    Args:
        data: its images' encoded bytes.
        masks: one black-and-white PNG per expression.
    """
    evidence = {
        "key_expressions": [expression.to_dict() for expression in expressions],
        "masks": [as_encoded(mask) for mask in masks],
        "source": conversation.source,
    }
    head = {"id": conversation.id, "images": [as_encoded(image) for image in data]}
    if conversation.answers:
        asked = {"question": conversation.messages[-2]["content"], "answers": list(conversation.answers)}
        row = {**head, **asked, "category": conversation.category, **evidence}
    else:
        row = {**head, "messages": list(conversation.messages), **evidence}
    try:
        validate_row(row)
    except RowError as error:
        return Failure(conversation.id, "the row does not fit the schema", str(error))
    return row
