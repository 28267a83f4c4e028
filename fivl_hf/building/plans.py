"""Plans: what a dataset is built from, read by ``fivl build`` and by the ``datasets`` builders alike."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fivl_hf.augment.expressions import ProtocolName
from fivl_hf.augment.extractors.noun_phrases import NounPhraseExtractor
from fivl_hf.augment.inputs.conversations import Conversation, Record
from fivl_hf.augment.inputs.readers import input_format, read_conversations, row_image
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.augment.rows import RowMaker, Tools
from fivl_hf.building.absent import PLAUSIBLE, PlausibleEvidence
from fivl_hf.building.known import KnownEvidence, ReleasedEvidence, StoredEvidence, StoredExpression
from fivl_hf.building.limits import Limits, SortedRows
from fivl_hf.building.release import (
    ARCHIVE_FILE,
    CONVERSATIONS_FILE,
    SEGMENTS_FILE,
    Release,
    ReleasePolicy,
    index_release,
    release_records,
)
from fivl_hf.files.disk_table import DiskTable, index_file
from fivl_hf.jobs.outcomes import Drop, Failure
from fivl_hf.schema import KeyExpression
from fivl_hf.storage import load_rows, split_names

__all__ = [
    "BuildError",
    "Plan",
    "Sources",
    "benchmark_plan",
    "coco_instances",
    "find_file",
    "image_roots",
    "release_plan",
    "rows_plan",
    "scene_graphs",
    "scenes_plan",
]

Records = Callable[[], Iterator[Record]]
_IMAGE_FOLDERS = ("coco", "gqa", "ocr_vqa", "textvqa", "vg")


class BuildError(ValueError):
    """The files to build from are missing, or not what the builder needs."""


@dataclass(frozen=True)
class Sources:
    """The configuration of a builder.

    Attributes:
        data_dir: folder of the files to build from.
        images: further folders of images.
        evidence: folders of rows by ``fivl augment``, for a benchmark.
        annotations: COCO instances or GQA scene graphs, for a benchmark; found in ``data_dir`` if empty.
        splits: only these; empty for all.
        protocol: the paper's rules for the release's expressions, or ours.
        evidence_only: leave out conversations without evidence.
        absent: "plausible" gives evidence to "no" questions, too (:mod:`fivl_hf.building.absent`).
    """

    data_dir: Path
    images: tuple[Path, ...] = ()
    evidence: tuple[str, ...] = ()
    annotations: tuple[Path, ...] = ()
    splits: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    tagger: str = "hanta"
    protocol: ProtocolName = "default"
    evidence_only: bool = False
    absent: str = ""


@dataclass(frozen=True)
class Plan:
    """The steps by which a dataset is built.

    Attributes:
        splits: reads the records of each split; can be pickled.
        maker: makes what makes the rows, in each worker; can be pickled.
        files: what is read, whose sizes and times tell whether an interrupted build may be resumed.
        prepare: called once before anything is read; returns counts for the report.
        every_sample: whether a sample that fails is an error, since scores over the whole set would be wrong.
    """

    splits: Mapping[str, Records]
    maker: Callable[[int], RowMaker]
    files: tuple[Path, ...] = ()
    prepare: Callable[[], dict[str, Any]] = field(default=dict)
    every_sample: bool = False


def _release_maker(archive: Path, index: Path, sources: Sources, _: int) -> RowMaker:
    evidence = ReleasedEvidence(archive, index, sources.tagger, sources.protocol)
    maker = KnownEvidence(evidence, evidence_only=sources.evidence_only)
    return SortedRows(maker, sources.limits, _image_folder, evidence_only=sources.evidence_only)


def _stored_maker(sources: Sources, _: int) -> RowMaker:
    maker = KnownEvidence(StoredEvidence(), evidence_only=sources.evidence_only)
    return SortedRows(maker, sources.limits, _image_folder, evidence_only=sources.evidence_only)


def _annotations_maker(index: Path, sources: Sources, _: int) -> RowMaker:
    from fivl_hf.augment.grounders.annotations import AnnotationsGrounder, PlausibleGrounder

    extractor = NounPhraseExtractor(questions_too=True)
    maker: RowMaker = Tools(extractor, AnnotationsGrounder(index), sources.tagger)
    if sources.absent == PLAUSIBLE:
        maker = PlausibleEvidence(maker, Tools(extractor, PlausibleGrounder(index), sources.tagger))
    return SortedRows(maker, sources.limits)


def _scenes_maker(limits: Limits, _: int) -> RowMaker:
    from fivl_hf.augment.scenes import scene_tools

    return SortedRows(scene_tools(), limits)


def _image_folder(record: Conversation) -> str:
    """Return the part of FiVL-Instruct that a conversation belongs to: its image's collection."""
    folder = record.source.rsplit("/", 1)[-1]
    return folder if folder in _IMAGE_FOLDERS else "other"


def release_plan(sources: Sources, work: Path) -> Plan:
    """FiVL-Instruct from the authors' release; see :class:`fivl_hf.building.release.Release` for its files."""
    _refuse_unused(sources, "evidence", "annotations", "splits")
    _refuse_scores(sources)
    folder = sources.data_dir
    release = Release(
        segments=find_file(folder, "the release's segments", SEGMENTS_FILE),
        archive=find_file(folder, "the release's tensors", ARCHIVE_FILE),
        conversations=find_file(folder, "LLaVA's conversations", CONVERSATIONS_FILE),
        images=(folder, *sources.images),
    )
    policy = ReleasePolicy(sources.protocol, sources.evidence_only)
    files = (release.segments, release.archive, release.conversations)
    index = index_file(work, "release", files)
    return Plan(
        splits={"train": partial(release_records, release, index, policy)},
        maker=partial(_release_maker, release.archive, index, sources),
        files=files,
        prepare=partial(index_release, release, index),
    )


def rows_plan(sources: Sources) -> Plan:
    """Return the rows of conversations that ``fivl augment`` made, as they are, within the limits."""
    _refuse_unused(sources, "evidence", "annotations", "images")
    if sources.protocol != "default":
        raise BuildError("protocol would change nothing here: rows by `fivl augment` are taken as they are")
    dataset = str(sources.data_dir)
    names = split_names(dataset)
    return Plan(
        splits={split: partial(_stored_records, dataset, split) for split in _chosen(names, sources.splits)},
        maker=partial(_stored_maker, sources),
        files=_parquet([dataset]),
    )


def benchmark_plan(
    sources: Sources, work: Path, questions: Mapping[str, InputSettings], annotations: Sequence[Path]
) -> Plan:
    """Plan a benchmark: its questions with evidence from rows by ``fivl augment``, or from annotations.

    Args:
        questions: of each split, the settings by which its questions are read.
        annotations: used if the sources name no rows.

    Raises:
        BuildError: files of another benchmark, evidence for other splits or questions, or no evidence at all.
    """
    chosen = {split: replace(questions[split], rename=False) for split in _chosen(list(questions), sources.splits)}
    for settings in chosen.values():
        _require_format(settings)
    if sources.evidence:
        _refuse_unused(sources, "annotations", "absent")
    files = tuple(
        path for settings in chosen.values() for path in (Path(settings.input), settings.answers) if path is not None
    )
    if sources.evidence:
        known = [(folder, name) for folder in sources.evidence for name in split_names(folder)]
        found = {split: _evidence_split(split, known, alone=len(chosen) == 1) for split in chosen}
        return Plan(
            splits={
                split: partial(_with_stored_evidence, settings, *found[split]) for split, settings in chosen.items()
            },
            maker=partial(_stored_maker, sources),
            files=(*files, *_parquet(sources.evidence)),
            every_sample=True,
        )
    if not annotations:
        raise BuildError(
            f"no evidence for the questions in {sources.data_dir}: put COCO's instances_*.json or GQA's "
            "*_sceneGraphs.json beside them, name such files as annotations, or name rows by `fivl augment` as evidence"
        )
    _refuse_scores(sources)
    index = index_file(work, "annotations", annotations)
    return Plan(
        splits={split: partial(_questions, settings) for split, settings in chosen.items()},
        maker=partial(_annotations_maker, index, sources),
        files=(*files, *annotations),
        prepare=partial(_index_annotations, tuple(annotations), index),
        every_sample=True,
    )


def image_roots(sources: Sources, *names: str) -> tuple[Path, ...]:
    """List the folders of a benchmark's images: those given, those of these names in the data folder, and itself."""
    inside = [sources.data_dir / name for name in names]
    return (*sources.images, *(path for path in inside if path.is_dir()), sources.data_dir)


def coco_instances(sources: Sources, subsets: Sequence[str]) -> tuple[Path, ...]:
    """COCO's instance annotations: those given, or those of every subset in the data folder.

    Raises:
        BuildError: only some of the subsets have them.
    """
    places = (sources.data_dir, sources.data_dir / "annotations")
    found = {
        subset: path for subset in subsets for place in places if (path := place / f"instances_{subset}.json").is_file()
    }
    return sources.annotations or _covering(sources, found, [f"instances_{subset}.json" for subset in subsets])


def scene_graphs(sources: Sources, splits: Sequence[str]) -> tuple[Path, ...]:
    """GQA's scene graphs: those given, or those of every split in the data folder. Raises as :func:`coco_instances`."""
    names = {split: f"{split}_sceneGraphs.json" for split in splits}
    found = {split: path for split, name in names.items() if (path := sources.data_dir / name).is_file()}
    return sources.annotations or _covering(sources, found, list(names.values()))


def _covering(sources: Sources, found: Mapping[str, Path], names: Sequence[str]) -> tuple[Path, ...]:
    """Return annotations of every split, or none; of some only, the others would silently have no evidence."""
    missing = sorted(set(names) - {path.name for path in found.values()})
    if found and missing and not sources.evidence:
        raise BuildError(
            f"{sources.data_dir} holds {', '.join(path.name for path in found.values())}, but no {', '.join(missing)}: "
            "add it, choose other splits, or give rows by `fivl augment` as evidence"
        )
    return tuple(found.values())


def scenes_plan(
    seed: int, counts: Mapping[str, int], splits: Sequence[str], limits: Limits, style: str | None = None
) -> Plan:
    """Plan rendered scenes of the splits named, or of all splits."""
    chosen = _chosen(list(counts), splits)
    return Plan(
        splits={
            split: partial(
                read_conversations,
                InputSettings("scenes", split=split, config=style, limit=counts[split], seed=seed),
            )
            for split in chosen
            if counts[split]
        },
        maker=partial(_scenes_maker, limits),
    )


def find_file(folder: Path, what: str, *patterns: str) -> Path:
    """Return the one file of a folder, or of its folder ``annotations``, that fits one of the patterns.

    Raises:
        BuildError: there is none, or several.
    """
    if not folder.is_dir():
        raise BuildError(f"there is no folder {folder}")
    found = [path for pattern in patterns for place in (folder, folder / "annotations") for path in place.glob(pattern)]
    if not found:
        raise BuildError(f"{folder} holds no {' or '.join(patterns)} ({what})")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise BuildError(f"{folder} holds several files for {what}: {names}; leave one of them there")
    return found[0]


def _chosen(names: Sequence[str], splits: Sequence[str]) -> list[str]:
    if unknown := [split for split in splits if split not in names]:
        raise BuildError(f"there is no split {unknown[0]!r} to build; there are {', '.join(names)}")
    return [split for split in names if not splits or split in splits]


def _refuse_unused(sources: Sources, *names: str) -> None:
    for name in names:
        if getattr(sources, name):
            raise BuildError(f"{name} would change nothing here: this build does not read it")


def _refuse_scores(sources: Sources) -> None:
    if sources.limits.min_score is not None:
        raise BuildError("min_score would change nothing here: this evidence was not detected and has no scores")


def _parquet(folders: Sequence[str]) -> tuple[Path, ...]:
    return tuple(path for folder in folders for path in sorted(Path(folder).glob("**/*.parquet")))


def _require_format(settings: InputSettings) -> None:
    found = input_format(settings.input)
    if found != settings.format:
        raise BuildError(f"{settings.input} is not a file of {settings.format} questions; it looks like {found}")


def _index_annotations(files: tuple[Path, ...], index: Path) -> dict[str, Any]:
    from fivl_hf.augment.grounders.annotations import index_annotations

    index_annotations(files, index)
    return {"annotations": [path.name for path in files]}


def _evidence_split(split: str, known: Sequence[tuple[str, str]], *, alone: bool) -> tuple[str, str]:
    """Of datasets and their splits, the one that holds the evidence for a split of questions.

    Where the split is built alone, the only evidence may have any name.
    """
    named = [place for place in known if place[1] == split]
    if len(named) == 1:
        return named[0]
    if not named and alone and len(known) == 1:
        return known[0]
    there = ", ".join(f"{folder} ({name})" for folder, name in known)
    raise BuildError(
        f"the evidence must have one split {split!r}, found {there}; `fivl augment --split {split}` makes it"
    )


def _stored_records(dataset: str, split: str) -> Iterator[Record]:
    """Yield conversations with the evidence of their rows."""
    rows = load_rows(dataset, split)
    if "question" in rows.column_names:
        raise BuildError(f"{dataset}, split {split}, holds a benchmark's questions, not conversations")
    roots = [Path(dataset)] if Path(dataset).is_dir() else []
    for row in rows:
        try:
            images = tuple(row_image(image, roots) for image in row["images"])
            evidence = _stored_evidence(row)
        except _MALFORMED as error:
            yield Failure(str(row["id"]), "not a row of fivl-hf", f"{type(error).__name__}: {error}")
            continue
        yield Conversation(row["id"], images, tuple(row["messages"]), row["source"] or "", evidence=evidence)


def _questions(settings: InputSettings) -> Iterator[Record]:
    """Yield a benchmark's questions; one whose id was there already fails, since ids are kept."""
    seen = DiskTable()
    for record in read_conversations(settings):
        if isinstance(record, Conversation) and record.id in seen:
            record = Failure(record.id, "the question id was there already", settings.input)
        seen.put(record.id)
        yield record


def _with_stored_evidence(settings: InputSettings, dataset: str, split: str) -> Iterator[Record]:
    """Join a benchmark's questions with the rows of their ids; rows without a question come last."""
    rows = load_rows(dataset, split)
    if "question" not in rows.column_names:
        raise BuildError(f"{dataset}, split {split}, holds conversations, not a benchmark's questions")
    places = {id: number for number, id in enumerate(rows["id"])}
    without_images = rows.remove_columns("images")
    met: set[str] = set()
    for record in _questions(settings):
        if isinstance(record, Conversation) and record.id in places:
            met.add(record.id)
            row, asked = without_images[places[record.id]], record.messages[-2]["content"]
            if row["question"] != asked:
                raise BuildError(
                    f"{dataset}, split {split}, is evidence of other questions: {record.id} is {row['question']!r} "
                    f"there, but {asked!r} in {settings.input}"
                )
            try:
                record = replace(record, evidence=_stored_evidence(row))
            except _MALFORMED as error:
                record = Failure(record.id, "its evidence is not a row of fivl-hf", f"{type(error).__name__}: {error}")
        yield record
    if not met:
        raise BuildError(f"{dataset}, split {split}, is evidence of other questions: no id is in {settings.input}")
    yield from (Drop(id, "no question has the id of this evidence") for id in places if id not in met)


# What rows that other people wrote may raise.
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError)


def _stored_evidence(row: Mapping[str, Any]) -> tuple[StoredExpression, ...]:
    return tuple(
        StoredExpression(KeyExpression.from_dict(raw), mask["bytes"])
        for raw, mask in zip(row["key_expressions"], row["masks"], strict=True)
    )
