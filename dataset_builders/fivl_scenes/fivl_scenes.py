"""FiVL scenes as a ``datasets`` builder: rendered scenes with exact masks, in any number, from a seed."""

from dataclasses import dataclass
from pathlib import Path

from fivl_hf.building.builder import EvidenceBuilder, EvidenceConfig
from fivl_hf.building.limits import Limits
from fivl_hf.building.plans import BuildError, Plan, scenes_plan
from fivl_hf.scenes.catalog import ALIGNED
from fivl_hf.scenes.styles import STYLES

__all__ = ["FivlScenes", "FivlScenesConfig"]


@dataclass
class FivlScenesConfig(EvidenceConfig):
    """The scenes to render.

    Attributes:
        seed: another seed gives other scenes.
        train_rows, validation_rows, test_rows: rows per split.
        style: see :data:`fivl_hf.scenes.catalog.STYLE_NAMES`; each is a configuration, too.
    """

    seed: int = 0
    train_rows: int = 10_000
    validation_rows: int = 500
    test_rows: int = 1_000
    style: str = ALIGNED


class FivlScenes(EvidenceBuilder):
    """Builds scenes with ``FivlScenes(train_rows=..., seed=...).download_and_prepare()``; nothing is downloaded."""

    BUILDER_CONFIG_CLASS = FivlScenesConfig
    BUILDER_CONFIGS = [  # noqa: RUF012
        FivlScenesConfig(name="default", description="Objects on patch corners, the quick ones."),
        *(FivlScenesConfig(name=style, style=style, description=f"Free scenes, {style}.") for style in STYLES),
    ]
    config: FivlScenesConfig

    def plan(self, work: Path) -> Plan:
        config = self.config
        for name in ("data_dir", "images", "evidence", "annotations"):
            if getattr(config, name):
                raise BuildError(f"{name} would change nothing here: scenes are rendered")
        counts = {"train": config.train_rows, "validation": config.validation_rows, "test": config.test_rows}
        return scenes_plan(
            config.seed, counts, config.splits, Limits(config.max_coverage, config.min_score), config.style
        )
