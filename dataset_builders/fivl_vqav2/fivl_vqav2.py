"""FiVL-VQAv2 as a ``datasets`` builder: VQA v2's questions, ten answers each, with evidence."""

from pathlib import Path

from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.building.builder import BenchmarkBuilder, EvidenceConfig
from fivl_hf.building.plans import BuildError, Plan, benchmark_plan, coco_instances, find_file, image_roots

__all__ = ["FivlVqav2"]

_SUBSETS = {"train2014": "train", "val2014": "validation"}


class FivlVqav2(BenchmarkBuilder):
    """Builds FiVL-VQAv2.

    ``data_dir`` holds ``v2_OpenEnded_mscoco_val2014_questions.json``, ``v2_mscoco_val2014_annotations.json``, the
    images in ``val2014``, and, unless ``evidence`` names rows by ``fivl augment``, COCO's ``instances_val2014.json``;
    or the same for ``train2014``, or both.
    """

    BUILDER_CONFIGS = [EvidenceConfig(name="default", description="Every question.")]  # noqa: RUF012

    def plan(self, work: Path) -> Plan:
        sources = self.sources()
        questions = {}
        for subset, split in _SUBSETS.items():
            if any(sources.data_dir.glob(f"*{subset}_questions.json")) and split in (sources.splits or (split,)):
                asked = find_file(sources.data_dir, "the questions", f"*{subset}_questions.json")
                answers = find_file(sources.data_dir, "the answers", f"*{subset}_annotations.json")
                questions[split] = InputSettings(str(asked), image_roots(sources, subset), "vqa", answers=answers)
        if not questions:
            raise BuildError(
                f"{sources.data_dir} holds no *train2014_questions.json or *val2014_questions.json (VQA v2's "
                "questions; those of test2015 have no public answers)"
            )
        subsets = tuple(subset for subset, split in _SUBSETS.items() if split in questions)
        return benchmark_plan(sources, work, questions, coco_instances(sources, subsets))
