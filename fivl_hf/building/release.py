"""FiVL-Instruct as its authors released it, joined with the conversations it was made of (arXiv 2412.14672).

``fivl_instruct.json`` maps a sample id of ``llava_v1_5_mix665k.json`` to segments; ids are not unique there. Of the
samples of one id, the one in whose answers most of the segments' expressions are gets them, and so do others about the
same image.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fivl_hf.augment.expressions import ExpressionCheck, Mention, ProtocolName
from fivl_hf.augment.inputs.conversations import Conversation, Record
from fivl_hf.augment.inputs.readers import NO_IMAGE, UniqueIds, llava_records
from fivl_hf.augment.rows import turns_of
from fivl_hf.building.archive import index_archive
from fivl_hf.files.disk_table import create_index, open_index
from fivl_hf.files.json_stream import json_members
from fivl_hf.jobs.outcomes import Drop, Failure

__all__ = [
    "ARCHIVE_FILE",
    "CONVERSATIONS_FILE",
    "SEGMENTS_FILE",
    "Release",
    "ReleasePolicy",
    "Segment",
    "index_release",
    "release_records",
]

SEGMENTS_FILE, ARCHIVE_FILE = "fivl_instruct.json", "dataset_grounded.tar"
CONVERSATIONS_FILE = "llava_v1_5_mix665k.json"
# Ids whose segments are looked at to tell the format.
_TRIED = 100


@dataclass(frozen=True)
class Release:
    """The places of the release and of the conversations.

    Attributes:
        segments: ``fivl_instruct.json``.
        archive: ``dataset_grounded.tar``.
        conversations: ``llava_v1_5_mix665k.json``.
        images: folders that hold coco, gqa, ocr_vqa, textvqa and vg.
    """

    segments: Path
    archive: Path
    conversations: Path
    images: tuple[Path, ...]


@dataclass(frozen=True)
class ReleasePolicy:
    """Which samples become rows, and with which segments.

    Attributes:
        protocol: "paper" gives an id's segments to all samples that share it, and keeps expressions inside words.
        evidence_only: leave out samples without segments. By default they stay, as in the paper: they train on text.
    """

    protocol: ProtocolName = "default"
    evidence_only: bool = False


@dataclass(frozen=True)
class Segment:
    """One expression of the release.

    Attributes:
        turn: 0-based question-answer pair.
        mask: the tensor's name in the archive.
        boxes: x0, y0, x1, y1 in pixels of the image padded to 336×336.
    """

    turn: int
    text: str
    mask: str
    boxes: tuple[tuple[float, float, float, float], ...]


def index_release(release: Release, index: Path) -> dict[str, Any]:
    """Index the archive and decide which sample gets which segments; done once, the file appears when complete.

    Returns:
        Counts for the report.

    Raises:
        ValueError: a file of another kind, or a release that does not go with the conversations.
        FileNotFoundError: a file is missing.
    """
    for path in (release.segments, release.archive, release.conversations):
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
    if not index.is_file():
        with create_index(index) as table:
            counts = _fill(release, table)
            table.execute("CREATE TABLE counts (value TEXT)")
            table.execute("INSERT INTO counts VALUES (?)", (json.dumps(counts),))
    with closing(open_index(index)) as table:
        counts = json.loads(table.execute("SELECT value FROM counts").fetchone()[0])
    return dict(counts)


def release_records(release: Release, index: Path, policy: ReleasePolicy = ReleasePolicy()) -> Iterator[Record]:
    """Yield a record for each sample, its segments as evidence, and a drop for each id of the release without a sample.

    Of samples that share an id, the one that fits best keeps it; the others are renamed "id-2" and so on.
    """
    ids = UniqueIds()
    records = llava_records(release.conversations, release.images, text_only=not policy.evidence_only)
    with closing(open_index(index)) as table:
        for number, record in enumerate(records):
            query = "SELECT value, item, fits, tied FROM segments JOIN chosen USING (id) WHERE id = ?"
            released = table.execute(query, (record.id,)).fetchone()
            matched = _with_segments(record, number, released, policy)
            if released:
                ids.reserve(record.id)
            keeps_id = released is not None and released[1] == number
            yield matched if keeps_id or not isinstance(matched, Conversation) else ids.renamed(matched)
        for (id,) in table.execute("SELECT id FROM segments WHERE id NOT IN (SELECT id FROM chosen) ORDER BY id"):
            yield Drop(id, "no sample has the release's id")


def _with_segments(
    record: Record, number: int, released: tuple[str, int, int, int] | None, policy: ReleasePolicy
) -> Record:
    """Return a sample with its segments; one that gets none stays as it is, unless only evidence is wanted.

    Args:
        released: of the sample's id, the segments, the number of the sample that fits them best, how many of them fit
            it, and whether others fit as well.
    """
    if not isinstance(record, Conversation):
        return record
    if released is None or not record.images:
        return Drop(record.id, "the release has no segments for it") if policy.evidence_only else record
    value, item, best, tied = released
    try:
        segments = _segments(json.loads(value))
    except ValueError as error:
        return Failure(record.id, "its segments are not in the release's format", str(error))
    # Masks are of one image: by default, a sample of the same id gets them if it is about that one.
    if item != number and policy.protocol != "paper" and not _same_image(segments, record):
        if not policy.evidence_only:
            return record
        as_good = tied and _fits(segments, record) == best
        reason = "a sample of the same id fits the release " + ("as well (ambiguous)" if as_good else "better")
        return Drop(record.id, reason)
    return Conversation(record.id, record.images, record.messages, record.source, evidence=segments)


def _fill(release: Release, table: sqlite3.Connection) -> dict[str, Any]:
    table.execute("CREATE TABLE segments (id TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
    _require_version(release.segments)
    entries = ((id, _dumped(value)) for id, value in json_members(release.segments))
    table.executemany("INSERT OR REPLACE INTO segments VALUES (?, ?)", tqdm(entries, desc="read segments", unit="id"))
    (listed,) = table.execute("SELECT count(*) FROM segments").fetchone()
    if not listed:
        raise ValueError(f"{release.segments} maps no sample id to segments")
    with tqdm(total=release.archive.stat().st_size, desc="index archive", unit="B", unit_scale=True) as bar:
        refused = index_archive(
            release.archive, table, wanted=lambda name: name.endswith((".pt", ".pth")), progress=bar.update
        )
    samples, without_image, several, ambiguous = _choose(release, table)
    (matched,) = table.execute("SELECT count(*) FROM chosen").fetchone()
    (tensors,) = table.execute("SELECT count(*) FROM members").fetchone()
    if not matched:
        raise ValueError(
            f"no sample of {release.conversations} has an id of {release.segments}: they do not belong together"
        )
    return {
        "samples": samples,
        "samples_without_image": without_image,
        "ids_in_release": listed,
        "ids_without_sample": listed - matched,
        "ids_of_several_samples": several,
        "ids_ambiguous": ambiguous,
        "tensors": tensors,
        "archive_entries_refused": dict(refused),
    }


def _require_version(path: Path) -> None:
    """Check that one of the first ids has segments in the release's format; a single bad id fails later, alone."""
    problem = None
    for id, value in islice(json_members(path), _TRIED):
        try:
            _segments(value)
            return
        except ValueError as error:
            problem = problem or f"{id}: {error}"
    if problem:
        raise ValueError(
            f"{path} is not in the release's format, or of another version ({problem}); expected for each id: "
            '[{"turn": 1, "prompts": [{"prompt": ..., "mask_rel": ..., "bbox": [...]}]}]'
        )


def _dumped(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        # Nested as no segments are: it fails with its sample.
        return json.dumps("nested too deeply")


def _choose(release: Release, table: sqlite3.Connection) -> tuple[int, int, int, int]:
    """Fill ``chosen``: of each id the sample that fits best, and whether another fits as well.

    Returns:
        Numbers of samples, of those without an image, of ids of several samples, and of ids where turns did not decide.
    """
    table.execute(
        "CREATE TABLE chosen (id TEXT PRIMARY KEY, item INT, fits INT, same_image INT, tied INT, samples INT) "
        "WITHOUT ROWID"
    )
    number = -1
    without_image = 0
    records = llava_records(release.conversations, release.images)
    for number, record in enumerate(tqdm(records, desc="match samples", unit="sample")):
        if isinstance(record, Drop) and record.reason == NO_IMAGE:
            without_image += 1
            continue
        found = table.execute("SELECT value FROM segments WHERE id = ?", (record.id,)).fetchone()
        if found is None:
            continue
        fits, same_image = _score(json.loads(found[0]), record) if isinstance(record, Conversation) else (-1, 0)
        known = table.execute("SELECT * FROM chosen WHERE id = ?", (record.id,)).fetchone()
        entry: tuple[Any, ...] = (record.id, number, fits, same_image, 0, 1)
        if known:
            better = (fits, same_image) > known[2:4]
            tied = int((known[4] and not fits > known[2]) or fits == known[2])
            entry = (*(entry if better else known)[:4], tied, known[5] + 1)
        table.execute("INSERT OR REPLACE INTO chosen VALUES (?, ?, ?, ?, ?, ?)", entry)
    several, ambiguous = table.execute(
        "SELECT count(*) FILTER (WHERE samples > 1), count(*) FILTER (WHERE tied) FROM chosen"
    ).fetchone()
    return number + 1, without_image, several, ambiguous


def _score(raw: Any, record: Conversation) -> tuple[int, int]:
    """Return how many segments' expressions a sample has, and whether its image is the segments'."""
    try:
        segments = _segments(raw)
    except ValueError:
        return 0, 0
    return _fits(segments, record), int(_same_image(segments, record))


def _same_image(segments: tuple[Segment, ...], record: Conversation) -> bool:
    """Return whether the segments' masks are named by the sample's image."""
    stem = f"/{Path(record.images[0].name).stem}/"
    return any(stem in f"/{segment.mask}" for segment in segments)


def _fits(segments: tuple[Segment, ...], record: Conversation) -> int:
    turns = turns_of(record)
    if isinstance(turns, Drop):
        return 0
    checks = [ExpressionCheck(turn) for turn in turns]
    return sum(
        segment.turn < len(turns) and isinstance(checks[segment.turn].place(segment.text), Mention)
        for segment in segments
    )


def _segments(raw: Any) -> tuple[Segment, ...]:
    """Return the segments of one id; raises ValueError if they are not valid."""
    try:
        if not isinstance(raw, list):
            raise TypeError(f"a list was expected, got {type(raw).__name__}")
        return tuple(_segment(turn["turn"], prompt) for turn in raw for prompt in turn["prompts"])
    except KeyError as error:
        raise ValueError(f"a segment or prompt without {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _segment(turn: Any, prompt: Mapping[str, Any]) -> Segment:
    if not isinstance(turn, int) or isinstance(turn, bool) or turn < 1:
        raise ValueError(f"turn counts from 1, got {turn!r}")
    boxes = tuple(
        (float(box["xmin"]), float(box["ymin"]), float(box["xmax"]), float(box["ymax"])) for box in prompt["bbox"]
    )
    text, mask = prompt["prompt"], prompt["mask_rel"]
    if not isinstance(text, str) or not isinstance(mask, str):
        raise TypeError("prompt and mask_rel must be texts")
    return Segment(turn - 1, text, mask, boxes)
