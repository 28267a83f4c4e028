"""FiVL scenes as a ``datasets`` builder: rendered scenes with exact masks, in any number, from a seed."""

from dataclasses import dataclass
from pathlib import Path

from fivl_hf.building.builder import EvidenceBuilder, EvidenceConfig
from fivl_hf.building.limits import Limits
from fivl_hf.building.plans import BuildError, Plan, scenes_plan

__all__ = ["FivlScenes", "FivlScenesConfig"]


@dataclass
class FivlScenesConfig(EvidenceConfig):
    """The scenes to render.

    Attributes:
        seed: another seed gives other scenes.
        train_rows, validation_rows, test_rows: rows per split.
    """

    seed: int = 0
    train_rows: int = 10_000
    validation_rows: int = 500
    test_rows: int = 1_000


class FivlScenes(EvidenceBuilder):
    """Builds scenes with ``FivlScenes(train_rows=..., seed=...).download_and_prepare()``; nothing is downloaded."""

    BUILDER_CONFIG_CLASS = FivlScenesConfig
    BUILDER_CONFIGS = [FivlScenesConfig(name="default", description="As many as asked for.")]  # noqa: RUF012
    config: FivlScenesConfig

    def plan(self, work: Path) -> Plan:
        config = self.config
        for name in ("data_dir", "images", "evidence", "annotations"):
            if getattr(config, name):
                raise BuildError(f"{name} would change nothing here: scenes are rendered")
        counts = {"train": config.train_rows, "validation": config.validation_rows, "test": config.test_rows}
        return scenes_plan(config.seed, counts, config.splits, Limits(config.max_coverage, config.min_score))
