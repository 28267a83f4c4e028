"""FiVL-GQA as a ``datasets`` builder: GQA's questions with evidence."""

import re
from pathlib import Path

from fivl_hf.augment.inputs.readers import InputSettings
from fivl_hf.building.builder import BenchmarkBuilder, EvidenceConfig
from fivl_hf.building.plans import BuildError, Plan, benchmark_plan, image_roots

__all__ = ["FivlGqa"]

_SPLITS = {"train": "train", "val": "validation", "testdev": "testdev"}


class FivlGqa(BenchmarkBuilder):
    """Builds FiVL-GQA.

    ``data_dir`` holds ``val_balanced_questions.json``, ``testdev_balanced_questions.json`` or the like, the pictures in
    ``images``, and, unless ``evidence`` names rows by ``fivl augment``, the scene graphs (``val_sceneGraphs.json``;
    GQA has none for testdev).
    """

    BUILDER_CONFIGS = [EvidenceConfig(name="default", description="Every question.")]  # noqa: RUF012

    def plan(self, work: Path) -> Plan:
        sources = self.sources()
        questions: dict[str, InputSettings] = {}
        for path in sorted(sources.data_dir.glob("*_questions.json")):
            name = re.match(r"(train|val|testdev)_", path.name)
            if not name:
                raise BuildError(f"{path}: only train, val and testdev questions can be built, others have no answers")
            if (split := _SPLITS[name[1]]) in questions:
                raise BuildError(f"{sources.data_dir} holds several files of {name[1]} questions; leave one there")
            questions[split] = InputSettings(str(path), image_roots(sources, "images"), "gqa")
        if not questions:
            raise BuildError(f"{sources.data_dir} holds no *_questions.json (GQA's questions)")
        graphs = sources.annotations or tuple(sorted(sources.data_dir.glob("*sceneGraphs.json")))
        return benchmark_plan(sources, work, questions, graphs)
