"""``fivl build``: a builder's plan run in worker processes, resumable, into a dataset repository."""

from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from fivl_hf.augment.inputs.readers import sampled
from fivl_hf.augment.pipeline import RunResult, RunSettings, run_augmentation
from fivl_hf.building.builder import EvidenceBuilder
from fivl_hf.building.plans import Plan
from fivl_hf.files.installed import installed_folder
from fivl_hf.files.managed_folders import require_own_folder, work_folder
from fivl_hf.jobs.engines import LocalEngine

__all__ = ["BuildSettings", "build_dataset", "builder_class", "builder_names"]

_PICTURES = 4
# Cheaper samples than augmentation's: larger shards keep 665,000 of them to a few thousand files.
_SHARD = 256


@dataclass(frozen=True)
class BuildSettings:
    """The settings of a build.

    Attributes:
        output: folder of the dataset.
        workers: processes.
        limit, seed: number of samples of each split; drawn at random if there is a seed, else the first.
        restart: start over.
        retry_failed: run shards again in which samples failed.
    """

    output: Path
    workers: int = 1
    limit: int | None = None
    seed: int | None = None
    restart: bool = False
    retry_failed: bool = False


def builder_names() -> list[str]:
    """Return the builders of this project, in a clone and after a plain install."""
    return sorted(
        path.name for path in installed_folder("dataset_builders").iterdir() if (path / f"{path.name}.py").is_file()
    )


def builder_class(name: str) -> type[EvidenceBuilder]:
    """Return the builder of a name, such as ``"fivl_pope"``.

    Raises:
        ValueError: there is none.
    """
    if name not in builder_names():
        raise ValueError(f"no builder named {name!r}; there are {', '.join(builder_names())}")
    module = import_module(f"fivl_hf.dataset_builders.{name}.{name}")
    found: type[EvidenceBuilder] = getattr(module, "".join(word.capitalize() for word in name.split("_")))
    return found


def build_dataset(builder: EvidenceBuilder, settings: BuildSettings) -> RunResult:
    """Build a dataset repository: Parquet, card with pictures, report.

    Raises:
        ValueError: files that are missing or of another kind, settings that differ from an interrupted build's, or,
            for a benchmark, samples that failed.
        FileExistsError: the output folder holds something else.
        OSError: a file cannot be written; what is finished is kept.
    """
    output = settings.output.resolve()
    require_own_folder(output)
    work = work_folder(output)
    plan = builder.plan(work)
    splits = {name: partial(sampled, records, settings.limit, settings.seed) for name, records in plan.splits.items()}
    run = RunSettings(
        output=output,
        identity=_identity(builder, plan, settings),
        shard_size=_SHARD,
        restart=settings.restart,
        retry_failed=settings.retry_failed,
        every_sample=plan.every_sample,
        card=builder.card(),
        pictures=_PICTURES,
        label="build",
    )
    return run_augmentation(splits, plan.maker, run, engine=LocalEngine(settings.workers), prepare=plan.prepare)


def _identity(builder: EvidenceBuilder, plan: Plan, settings: BuildSettings) -> dict[str, Any]:
    """Return what decides the rows."""
    given = {key: value for key, value in asdict(builder.config).items() if value not in (None, (), "")}
    # JSON keeps numbers and booleans as they are; paths and versions become text.
    config = {key: value if isinstance(value, bool | int | float) else str(value) for key, value in given.items()}
    stats = [(path, path.stat()) for path in plan.files]
    files = [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in stats]
    return {"builder": builder.name, **config, "limit": settings.limit, "sample_seed": settings.seed, "files": files}
