"""Plans: what a dataset is built from, read by ``fivl build`` and by the ``datasets`` builders alike."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Features

from fivl_hf.augment.expressions import NounPhraseExtractor
from fivl_hf.augment.inputs.conversations import Conversation, Record, StoredPicture
from fivl_hf.augment.inputs.readers import InputSettings, input_format, read_conversations
from fivl_hf.augment.rows import RowMaker, Tools
from fivl_hf.building.known import KnownEvidence, ReleasedEvidence, StoredEvidence, StoredExpression
from fivl_hf.building.limits import Limits, SortedRows
from fivl_hf.building.release import Release, index_release, release_records
from fivl_hf.images import encoded_bytes
from fivl_hf.schema import BENCHMARK_FEATURES, FEATURES, KeyExpression
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
    "scenes_plan",
]

Records = Callable[[], Iterator[Record]]
_IMAGE_FOLDERS = ("coco", "gqa", "ocr_vqa", "textvqa", "vg")


class BuildError(ValueError):
    """The files to build from are missing, or not what the builder needs."""


@dataclass(frozen=True)
class Sources:
    """What a builder's configuration says.

    Attributes:
        data_dir: folder of the files to build from.
        images: further folders of pictures.
        evidence: folders of rows by ``fivl augment``, for a benchmark.
        annotations: COCO instances or GQA scene graphs, for a benchmark; found in ``data_dir`` if empty.
        splits: only these; empty for all.
    """

    data_dir: Path
    images: tuple[Path, ...] = ()
    evidence: tuple[str, ...] = ()
    annotations: tuple[Path, ...] = ()
    splits: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    tagger: str = "hanta"


@dataclass(frozen=True)
class Plan:
    """How a dataset is built.

    Attributes:
        splits: reads the records of each split; can be pickled.
        maker: makes what makes the rows, in each worker; can be pickled.
        features: of the rows.
        files: what is read, whose sizes and times tell whether an interrupted build may go on.
        prepare: called once before anything is read; returns counts for the report.
        every_sample: whether a sample that fails is an error, since scores over the whole set would be wrong.
    """

    splits: Mapping[str, Records]
    maker: Callable[[int], RowMaker]
    features: Features
    files: tuple[Path, ...] = ()
    prepare: Callable[[], dict[str, Any]] = field(default=dict)
    every_sample: bool = False


@dataclass(frozen=True)
class _Maker:
    """Makes the maker of one worker."""

    kind: str
    limits: Limits
    tagger: str
    archive: Path = Path()
    index: Path = Path()

    def __call__(self, worker: int) -> RowMaker:
        return SortedRows(self._inner(), self.limits, _image_folder)

    def _inner(self) -> RowMaker:
        if self.kind == "release":
            return KnownEvidence(ReleasedEvidence(self.archive, self.index, self.tagger))
        if self.kind == "annotations":
            from fivl_hf.augment.grounders.annotations import AnnotationsGrounder

            return Tools(NounPhraseExtractor(questions_too=True), AnnotationsGrounder(self.index), self.tagger)
        return KnownEvidence(StoredEvidence())


def _image_folder(record: Conversation) -> str:
    """The part of FiVL-Instruct that a conversation belongs to: its image's collection."""
    folder = record.source.rsplit("/", 1)[-1]
    return folder if folder in _IMAGE_FOLDERS else "other"


def release_plan(sources: Sources, work: Path) -> Plan:
    """FiVL-Instruct from the authors' release; see :class:`fivl_hf.building.release.Release` for its files."""
    folder = sources.data_dir
    release = Release(
        segments=find_file(folder, "the release's segments", "fivl_instruct.json"),
        archive=find_file(folder, "the release's tensors", "dataset_grounded.tar"),
        conversations=find_file(folder, "LLaVA's conversations", "llava_v1_5_mix665k.json"),
        images=(folder, *sources.images),
    )
    index = work / "release.sqlite"
    return Plan(
        splits={"train": partial(release_records, release, index)},
        maker=_Maker("release", sources.limits, sources.tagger, release.archive, index),
        features=FEATURES,
        files=(release.segments, release.archive, release.conversations),
        prepare=partial(index_release, release, index),
    )


def rows_plan(sources: Sources) -> Plan:
    """The rows of conversations that ``fivl augment`` made, as they are, within the limits."""
    dataset = str(sources.data_dir)
    names = split_names(dataset)
    return Plan(
        splits={split: partial(_stored_records, dataset, split) for split in _chosen(names, sources)},
        maker=_Maker("stored", sources.limits, sources.tagger),
        features=FEATURES,
        files=tuple(sorted(sources.data_dir.glob("data/*.parquet"))),
    )


def benchmark_plan(
    sources: Sources, work: Path, questions: Mapping[str, InputSettings], annotations: Sequence[Path]
) -> Plan:
    """A benchmark's questions with evidence from rows by ``fivl augment``, or from annotations.

    Args:
        questions: where the questions of each split are.
        annotations: used if the sources name no rows.
    """
    chosen = {split: questions[split] for split in _chosen(list(questions), sources)}
    for settings in chosen.values():
        _require_format(settings)
    files = tuple(
        path for settings in chosen.values() for path in (Path(settings.input), settings.answers) if path is not None
    )
    if sources.evidence:
        found = {split: _evidence_split(split, list(chosen), sources.evidence) for split in chosen}
        return Plan(
            splits={
                split: partial(_with_stored_evidence, settings, *found[split]) for split, settings in chosen.items()
            },
            maker=_Maker("stored", sources.limits, sources.tagger),
            features=BENCHMARK_FEATURES,
            files=files,
            every_sample=True,
        )
    if not annotations:
        raise BuildError(
            f"no evidence for the questions in {sources.data_dir}: put COCO's instances_*.json or GQA's "
            "*_sceneGraphs.json beside them, name such files as annotations, or name rows by `fivl augment` as evidence"
        )
    index = work / "annotations.sqlite"
    return Plan(
        splits={split: partial(read_conversations, settings) for split, settings in chosen.items()},
        maker=_Maker("annotations", sources.limits, sources.tagger, index=index),
        features=BENCHMARK_FEATURES,
        files=(*files, *annotations),
        prepare=partial(_index_once, tuple(annotations), index),
        every_sample=True,
    )


def image_roots(sources: Sources, *names: str) -> tuple[Path, ...]:
    """Where a benchmark's pictures may be: the folders named, those of these names, and the data folder."""
    inside = [sources.data_dir / name for name in names]
    return (*sources.images, *(path for path in inside if path.is_dir()), sources.data_dir)


def coco_instances(sources: Sources, subsets: Sequence[str]) -> tuple[Path, ...]:
    """COCO's instance annotations: those named, or those of the subsets in the data folder."""
    places = (sources.data_dir, sources.data_dir / "annotations")
    found = [place / f"instances_{subset}.json" for subset in subsets for place in places]
    return sources.annotations or tuple(path for path in found if path.is_file())


def scenes_plan(seed: int, counts: Mapping[str, int]) -> Plan:
    """Rendered scenes, so many per split."""
    return Plan(
        splits={
            split: partial(read_conversations, InputSettings("scenes", split=split, limit=count, seed=seed))
            for split, count in counts.items()
            if count
        },
        maker=_scene_tools,
        features=FEATURES,
    )


def find_file(folder: Path, what: str, *patterns: str) -> Path:
    """The one file of a folder, or of its folder ``annotations``, that fits one of the patterns.

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


def _scene_tools(_: int) -> RowMaker:
    from fivl_hf.scenes import SceneGrounder

    return Tools(NounPhraseExtractor(), SceneGrounder())


def _chosen(names: Sequence[str], sources: Sources) -> list[str]:
    if unknown := [split for split in sources.splits if split not in names]:
        raise BuildError(f"there is no split {unknown[0]!r} to build; there are {', '.join(names)}")
    return [split for split in names if not sources.splits or split in sources.splits]


def _require_format(settings: InputSettings) -> None:
    found = input_format(settings.input)
    if found != settings.format:
        raise BuildError(f"{settings.input} is not a file of {settings.format} questions; it looks like {found}")


def _index_once(files: tuple[Path, ...], index: Path) -> dict[str, Any]:
    from fivl_hf.augment.grounders.annotations import index_annotations

    if not index.is_file():
        index_annotations(files, index)
    return {"annotations": [path.name for path in files]}


def _evidence_split(split: str, splits: Sequence[str], folders: Sequence[str]) -> tuple[str, str]:
    """The dataset, and its split, that holds the evidence for a split of questions."""
    known = [(folder, name) for folder in folders for name in split_names(folder)]
    named = [place for place in known if place[1] == split]
    if len(named) == 1:
        return named[0]
    if not named and len(known) == len(splits) == 1:
        return known[0]
    there = ", ".join(f"{folder} ({name})" for folder, name in known)
    raise BuildError(
        f"the evidence must have one split {split!r}, found {there}; `fivl augment --split {split}` makes it"
    )


def _stored_records(dataset: str, split: str) -> Iterator[Record]:
    """Conversations with the evidence of their rows."""
    for row in load_rows(dataset, split):
        pictures = tuple(StoredPicture(encoded_bytes(image)) for image in row["images"])
        yield Conversation(
            row["id"], pictures, tuple(row["messages"]), row["source"] or "", evidence=_stored_evidence(row)
        )


def _with_stored_evidence(settings: InputSettings, dataset: str, split: str) -> Iterator[Record]:
    """A benchmark's questions with the evidence of the rows that have their ids."""
    rows = load_rows(dataset, split)
    if "question" not in rows.column_names:
        raise BuildError(f"{dataset}, split {split}, holds conversations, not a benchmark's questions")
    places = {id: number for number, id in enumerate(rows["id"])}
    pictureless = rows.remove_columns("images")
    for record in read_conversations(settings):
        if isinstance(record, Conversation) and record.id in places:
            row, asked = pictureless[places[record.id]], record.messages[-2]["content"]
            if row["question"] != asked:
                raise BuildError(
                    f"{dataset}, split {split}, is evidence of other questions: {record.id} is {row['question']!r} "
                    f"there, but {asked!r} in {settings.input}"
                )
            record = replace(record, evidence=_stored_evidence(row))
        yield record


def _stored_evidence(row: Mapping[str, Any]) -> tuple[StoredExpression, ...]:
    return tuple(
        StoredExpression(
            KeyExpression(
                **{
                    **raw,
                    "keywords": tuple(raw["keywords"]),
                    "boxes": tuple(tuple(box) for box in raw["boxes"]),
                }
            ),
            encoded_bytes(mask),
        )
        for raw, mask in zip(row["key_expressions"], row["masks"], strict=True)
    )
