"""FiVL scenes as a ``datasets`` builder: rendered scenes with exact masks, in any number, from a seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets

from fivl_hf.scenes import scene_rows
from fivl_hf.schema import FEATURES

__all__ = ["FivlScenes", "FivlScenesConfig"]

_CHUNK = 500  # rows that one process makes at a time


@dataclass
class FivlScenesConfig(datasets.BuilderConfig):
    """How many scenes, and which.

    Attributes:
        seed: another seed gives other scenes.
        train_rows, validation_rows, test_rows: rows per split.
    """

    seed: int = 0
    train_rows: int = 10_000
    validation_rows: int = 500
    test_rows: int = 1_000


class FivlScenes(datasets.GeneratorBasedBuilder):
    """Builds scenes with ``FivlScenes(train_rows=..., seed=...).download_and_prepare()``; nothing is downloaded."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = FivlScenesConfig
    config: FivlScenesConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Rendered scenes of coloured shapes: conversations, key expressions, boxes, exact masks.",
            features=FEATURES,
            license="Apache-2.0",
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        counts = {
            "train": self.config.train_rows,
            "validation": self.config.validation_rows,
            "test": self.config.test_rows,
        }
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={"split": split, "chunks": [(i, min(_CHUNK, n - i)) for i in range(0, n, _CHUNK)]},
            )
            for split, n in counts.items()
        ]

    def _generate_examples(self, split: str, chunks: list[tuple[int, int]]) -> Iterator[tuple[str, dict[str, Any]]]:
        for start, count in chunks:
            for row in scene_rows(split, count, self.config.seed, start=start):
                yield row["id"], row
