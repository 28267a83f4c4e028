"""The base of all dataset builders: a plan, run by ``datasets`` in one process or several."""

import inspect
import shutil
import tempfile
import weakref
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import datasets
from datasets.utils import logging

from fivl_hf.augment.expressions import ProtocolName
from fivl_hf.augment.inputs.conversations import Record
from fivl_hf.augment.rows import Sample
from fivl_hf.building.absent import PLAUSIBLE
from fivl_hf.building.limits import Limits
from fivl_hf.building.plans import BuildError, Plan, Sources
from fivl_hf.files.fingerprints import files_digest
from fivl_hf.jobs.outcomes import Failure, Tally
from fivl_hf.schema import BENCHMARK_FEATURES, FEATURES
from fivl_hf.storage.cards import CardContent, read_card

__all__ = ["BenchmarkBuilder", "EvidenceBuilder", "EvidenceConfig"]

logger = logging.get_logger(__name__)


@dataclass
class EvidenceConfig(datasets.BuilderConfig):
    """The sources of a build, and what to keep of them; ``data_dir`` is the folder of the source files.

    Attributes:
        images: further folders of images.
        evidence: folders of rows by ``fivl augment`` (benchmarks).
        annotations: COCO instances or GQA scene graphs (benchmarks); found in ``data_dir`` if not given.
        splits: only these.
        max_coverage: leave out masks that cover more of their image.
        min_score: leave out key expressions with a lower detector score.
        tagger: finds the nouns of expressions, "hanta" or "spacy".
        protocol: "paper" for the rules of the paper's code (fivl_instruct from the release; docs/paper.md).
        evidence_only: leave out conversations without evidence, which otherwise train on text alone (fivl_instruct).
        absent: "plausible" gives evidence to "no" questions, too: the objects that are most often annotated together
            with the absent one; the category says so (fivl_pope).
    """

    version: datasets.Version | str | None = "1.0.0"
    images: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    max_coverage: float | None = None
    min_score: float | None = None
    tagger: str = "hanta"
    protocol: ProtocolName = "default"
    evidence_only: bool = False
    absent: str = ""

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        # `datasets` would take rows from its cache after the source files have changed.
        base = super().create_config_id(config_kwargs, custom_features)
        folders = [Path(folder) for folder in (self.data_dir, *self.evidence) if folder]
        places = [place for folder in folders for place in (folder, folder / "annotations", folder / "data")]
        found = {path for place in places for path in place.glob("*")} | {Path(path) for path in self.annotations}
        files = sorted(path for path in found if path.is_file())
        return f"{base}-{files_digest(files)}" if files else base


class EvidenceBuilder(datasets.GeneratorBasedBuilder):
    """A builder whose rows come from a plan; ``fivl build`` runs the same plan."""

    BUILDER_CONFIG_CLASS: ClassVar[type] = EvidenceConfig
    FEATURES: ClassVar[datasets.Features] = FEATURES
    # Of the options protocol, evidence_only and absent, those that this builder reads; the others are refused.
    OWN_OPTIONS: ClassVar[frozenset[str]] = frozenset()
    # Rows that one process makes at a time.
    chunk: ClassVar[int] = 500
    config: Any

    def __init__(self, config_name: str | None = None, **options: Any) -> None:
        """Make a builder.

        Args:
            config_name: such as "augmented"; the default one if None.
            options: fields of the configuration (``data_dir``, ``splits``, ...), and ``datasets``' own, ``cache_dir``.
        """
        self._streaming_work: Path | None = None
        super().__init__(config_name=config_name, **options)
        for name, value in (("protocol", "default"), ("evidence_only", False), ("absent", "")):
            if getattr(self.config, name) != value and name not in self.OWN_OPTIONS:
                raise BuildError(f"{name} would change nothing here: {self.name} does not read it")
        if self.config.absent not in ("", PLAUSIBLE):
            raise BuildError(f"absent must be {PLAUSIBLE!r} or nothing, got {self.config.absent!r}")

    @abstractmethod
    def plan(self, work: Path) -> Plan:
        """Return what to build; ``work`` is a folder for indexes.

        Raises:
            BuildError: files are missing or of another kind.
        """

    @classmethod
    def card(cls) -> CardContent:
        """Return the card of what is built, from the README.md beside the builder."""
        front, body = read_card(Path(inspect.getfile(cls)).with_name("README.md").read_text(encoding="utf-8"))
        return CardContent(front["pretty_name"], front=front, body=body)

    def sources(self) -> Sources:
        """Check the configuration.

        Raises:
            BuildError: there is no ``data_dir``, or it is not a folder.
        """
        config = self.config
        if not config.data_dir:
            raise BuildError(f"{self.name} needs data_dir: the folder of the files to build from")
        data_dir = Path(config.data_dir)
        if not data_dir.is_dir():
            raise BuildError(f"data_dir: there is no folder {data_dir}")
        return Sources(
            data_dir=data_dir,
            images=tuple(Path(path) for path in config.images),
            evidence=tuple(config.evidence),
            annotations=tuple(Path(path) for path in config.annotations),
            splits=tuple(config.splits),
            limits=Limits(config.max_coverage, config.min_score),
            tagger=config.tagger,
            protocol=config.protocol,
            evidence_only=config.evidence_only,
            absent=config.absent,
        )

    def _info(self) -> datasets.DatasetInfo:
        about = self.card()
        return datasets.DatasetInfo(
            description=about.body, features=self.FEATURES, license=str(about.front.get("license", ""))
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        plan = self._plan()
        plan.prepare()
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={"split": split, "chunks": list(range(-(-sum(1 for _ in records()) // self.chunk)))},
            )
            for split, records in plan.splits.items()
        ]

    def _generate_examples(self, split: str, chunks: list[int]) -> Iterator[tuple[str, dict[str, Any]]]:
        plan, tally = self._plan(), Tally()
        maker = plan.maker(0)
        for samples in self._chunks(plan.splits[split](), chunks):
            for outcome in maker.make(samples):
                tally.count(outcome.result)
                if plan.every_sample and isinstance(outcome.result, Failure):
                    raise BuildError(f"sample {outcome.id!r}: {outcome.result.reason} ({outcome.result.detail})")
                if isinstance(outcome.result, dict):
                    yield outcome.id, outcome.result
        if tally.read > tally.kept:
            logger.warning(f"{self.name}, {split}: {tally.to_dict()}")

    def _chunks(self, records: Iterator[Record], wanted: list[int]) -> Iterator[list[Sample]]:
        """Yield the records of the chunks of these numbers."""
        for number in range(max(wanted, default=-1) + 1):
            chunk = list(islice(records, self.chunk))
            if number in wanted:
                yield [Sample(record) for record in chunk]

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """Build as ``datasets`` does; raises BuildError if none of the samples became a row."""
        try:
            super().download_and_prepare(*args, **kwargs)
        finally:
            shutil.rmtree(f"{self.cache_dir}.work", ignore_errors=True)
        if not any(split.num_examples for split in (self.info.splits or {}).values()):
            shutil.rmtree(self.cache_dir, ignore_errors=True)
            raise BuildError(f"{self.name}: none of the samples became a row; fivl build tells why for each")

    def as_streaming_dataset(self, *args: Any, **kwargs: Any) -> Any:
        if self._streaming_work is None:
            # The dataset that comes back holds this builder: the indexes live as long as somebody reads.
            self._streaming_work = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
            self._cleaner = weakref.finalize(self, shutil.rmtree, self._streaming_work, ignore_errors=True)
        return super().as_streaming_dataset(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process reads the indexes and does not remove them.
        return {key: value for key, value in self.__dict__.items() if key != "_cleaner"}

    @property
    def _work(self) -> Path:
        return self._streaming_work or Path(f"{self.cache_dir}.work")

    def _plan(self) -> Plan:
        self._work.mkdir(parents=True, exist_ok=True)
        return self.plan(self._work)


class BenchmarkBuilder(EvidenceBuilder):
    """The base of builders of a benchmark's questions."""

    FEATURES = BENCHMARK_FEATURES
