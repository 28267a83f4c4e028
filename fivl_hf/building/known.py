"""Rows of conversations whose evidence is known: from the authors' release, or from rows made earlier."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fivl_hf.augment.expressions import ExpressionCheck, Mention, ProtocolName
from fivl_hf.augment.inputs.conversations import Conversation
from fivl_hf.augment.rows import Outcome, RejectedExpression, Sample, checked_row, image_data, turns_of
from fivl_hf.building.archive import ArchiveReader
from fivl_hf.building.grids import mask_from_grid
from fivl_hf.building.release import Segment
from fivl_hf.building.tensors import TensorError, load_grid
from fivl_hf.geometry import unpadded_boxes
from fivl_hf.images import PADDED_SIDE, ImageError, StoredSize, stored_size
from fivl_hf.jobs.outcomes import Drop, Failure
from fivl_hf.keywords import nouns
from fivl_hf.masks import decode_mask, encode_mask
from fivl_hf.schema import KeyExpression, Turn

__all__ = ["KnownEvidence", "ReleasedEvidence", "StoredEvidence", "StoredExpression"]


@dataclass(frozen=True)
class Located:
    """A key expression with its mask: one bilevel PNG, and the share of the image that it covers."""

    expression: KeyExpression
    mask: bytes
    coverage: float


class Evidence(Protocol):
    """Reads what is known of one conversation."""

    def locate(
        self, conversation: Conversation, turns: Sequence[Turn], sizes: Sequence[StoredSize]
    ) -> tuple[list[Located], list[RejectedExpression]]: ...


class KnownEvidence:
    """Makes rows of conversations that bring their evidence along.

    Args:
        evidence_only: drop those of which no evidence is usable; if not, they become rows without key expressions.
    """

    def __init__(self, evidence: Evidence, *, evidence_only: bool = False) -> None:
        self._evidence, self._evidence_only = evidence, evidence_only

    def make(self, samples: Sequence[Sample]) -> list[Outcome]:
        return [self._outcome(sample.record) for sample in samples]

    def _outcome(self, record: Any) -> Outcome:
        if not isinstance(record, Conversation):
            return Outcome(record.id, record)
        turns = turns_of(record)
        if isinstance(turns, Drop):
            return Outcome(record.id, turns)
        data = image_data(record)
        if isinstance(data, Failure):
            return Outcome(record.id, data)
        try:
            sizes = [stored_size(image) for image in data]
        except ImageError as error:
            names = ", ".join(image.name for image in record.images)
            return Outcome(record.id, Failure(record.id, "the image cannot be read", f"{names}: {error}"))
        located, rejected = self._evidence.locate(record, turns, sizes)
        if not located and self._evidence_only:
            return Outcome(record.id, Drop(record.id, "no key expression has a usable mask"), tuple(rejected))
        row = checked_row(record, data, [each.expression for each in located], [each.mask for each in located])
        return Outcome(record.id, row, tuple(rejected), tuple(each.coverage for each in located))


class ReleasedEvidence:
    """The authors' segments: expressions, 24×24 tensors in the archive, boxes in padded 336×336 pixels.

    Both are taken to be of the image as it is stored, as LLaVA opens it: without regard to EXIF's orientation.
    """

    def __init__(self, archive: Path, index: Path, tagger: str = "hanta", protocol: ProtocolName = "default") -> None:
        self._archive, self._tagger, self._protocol = ArchiveReader(archive, index), tagger, protocol

    def locate(
        self, conversation: Conversation, turns: Sequence[Turn], sizes: Sequence[StoredSize]
    ) -> tuple[list[Located], list[RejectedExpression]]:
        located, rejected = [], []
        checks = [ExpressionCheck(turn, self._protocol) for turn in turns]
        for segment in conversation.evidence:
            found = self._segment(segment, checks, sizes[0])
            if isinstance(found, Located):
                located.append(found)
            else:
                rejected.append(RejectedExpression(segment.turn, segment.text[:200], found))
        return located, rejected

    def _segment(self, segment: Segment, checks: Sequence[ExpressionCheck], size: StoredSize) -> Located | str:
        """Return a segment in source pixels, or why it cannot be used."""
        if segment.turn >= len(checks):
            return "the sample has no such turn"
        mention = checks[segment.turn].place(segment.text)
        if not isinstance(mention, Mention):
            return mention.reason
        try:
            grid = load_grid(self._archive.read(segment.mask))
        except KeyError:
            return "its mask is not in the archive"
        except TensorError as error:
            return f"its mask is refused: {error}"
        mask = size.upright_mask(mask_from_grid(grid, size.stored))
        if not mask.any():
            return "its mask is empty"
        expression = KeyExpression(
            turn=segment.turn,
            text=mention.text,
            start=mention.start,
            end=mention.end,
            keywords=nouns(mention.text, self._tagger, proper=self._protocol != "paper"),
            boxes=_source_boxes(segment, size),
        )
        return Located(expression, encode_mask(mask), float(mask.mean()))


def _source_boxes(segment: Segment, size: StoredSize) -> tuple[tuple[float, float, float, float], ...]:
    """Return a segment's boxes in source pixels, padding undone; those that lie in the padding are left out."""
    source = unpadded_boxes(segment.boxes, size.stored, PADDED_SIDE)
    return tuple((a, b, c, d) for a, b, c, d in size.upright_boxes(source).tolist())


@dataclass(frozen=True)
class StoredExpression:
    """A key expression of a row made earlier, with its mask's PNG."""

    expression: KeyExpression
    mask: bytes


class StoredEvidence:
    """The key expressions of rows made earlier, as they are."""

    def locate(
        self, conversation: Conversation, turns: Sequence[Turn], sizes: Sequence[StoredSize]
    ) -> tuple[list[Located], list[RejectedExpression]]:
        found, rejected = [], []
        for stored in conversation.evidence:
            try:
                coverage = float(decode_mask(stored.mask).mean())
            except ImageError:
                known = stored.expression
                rejected.append(RejectedExpression(known.turn, known.text, "its mask cannot be read"))
                continue
            found.append(Located(stored.expression, stored.mask, coverage))
        return found, rejected
