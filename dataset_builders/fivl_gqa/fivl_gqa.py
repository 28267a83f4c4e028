"""FiVL-GQA as a ``datasets`` builder: GQA's questions with evidence."""

from pathlib import Path

from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.building.builder import BenchmarkBuilder, EvidenceConfig
from fivl_hf.building.plans import BuildError, Plan, benchmark_plan, image_roots, scene_graphs

__all__ = ["FivlGqa"]

_SPLITS = {"train": "train", "val": "validation", "testdev": "testdev"}


class FivlGqa(BenchmarkBuilder):
    """Builds FiVL-GQA.

    ``data_dir`` holds ``val_balanced_questions.json``, ``testdev_balanced_questions.json`` or the like, the images in
    ``images``, and, unless ``evidence`` names rows by ``fivl augment``, the scene graphs (``val_sceneGraphs.json``;
    GQA has none for testdev).
    """

    BUILDER_CONFIGS = [EvidenceConfig(name="default", description="Every question.")]  # noqa: RUF012

    def plan(self, work: Path) -> Plan:
        sources = self.sources()
        questions: dict[str, InputSettings] = {}
        for prefix, split in _SPLITS.items():
            # The archive has every split twice: all questions, and the balanced ones that are usually scored.
            found = [sources.data_dir / f"{prefix}_{kind}_questions.json" for kind in ("balanced", "all")]
            paths = [path for path in found if path.is_file()]
            if paths and split in (sources.splits or (split,)):
                questions[split] = InputSettings(str(paths[0]), image_roots(sources, "images"), "gqa")
        if not questions:
            raise BuildError(
                f"{sources.data_dir} holds no {{{','.join(_SPLITS)}}}_balanced_questions.json (GQA's questions; those "
                "of other splits have no public answers)"
            )
        prefixes = [prefix for prefix, split in _SPLITS.items() if split in questions]
        return benchmark_plan(sources, work, questions, scene_graphs(sources, prefixes))
