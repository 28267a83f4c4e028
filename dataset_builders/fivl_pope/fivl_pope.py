"""FiVL-POPE as a ``datasets`` builder: POPE's questions with evidence."""

from pathlib import Path

from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.building.builder import BenchmarkBuilder, EvidenceConfig
from fivl_hf.building.plans import BuildError, Plan, benchmark_plan, coco_instances, image_roots

__all__ = ["FivlPope"]

_SPLITS = ("adversarial", "popular", "random")


class FivlPope(BenchmarkBuilder):
    """Builds FiVL-POPE.

    ``data_dir`` holds POPE's ``coco_pope_adversarial.json``, ``coco_pope_popular.json`` and ``coco_pope_random.json``
    (or some of them), the images in ``val2014``, and, unless ``evidence`` names rows by ``fivl augment``, COCO's
    ``instances_val2014.json``.
    """

    BUILDER_CONFIGS = [EvidenceConfig(name="default", description="Every question.")]  # noqa: RUF012
    OWN_OPTIONS = frozenset({"absent"})

    def plan(self, work: Path) -> Plan:
        sources = self.sources()
        places = {split: sources.data_dir / f"coco_pope_{split}.json" for split in _SPLITS}
        found = {split: path for split, path in places.items() if path.is_file()}
        if not found:
            raise BuildError(f"{sources.data_dir} holds no coco_pope_{{{','.join(_SPLITS)}}}.json (POPE's questions)")
        questions = {
            split: InputSettings(str(path), image_roots(sources, "val2014"), "pope") for split, path in found.items()
        }
        return benchmark_plan(sources, work, questions, coco_instances(sources, ("val2014",)))
