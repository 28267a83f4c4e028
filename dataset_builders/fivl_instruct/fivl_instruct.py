"""FiVL-Instruct as a ``datasets`` builder: from the authors' release, or from rows by ``fivl augment``."""

from pathlib import Path

from fivl_hf.building.builder import EvidenceBuilder, EvidenceConfig
from fivl_hf.building.plans import Plan, release_plan, rows_plan

__all__ = ["FivlInstruct"]


class FivlInstruct(EvidenceBuilder):
    """Builds FiVL-Instruct.

    ``data_dir`` holds, for the configuration "release", ``fivl_instruct.json``, ``dataset_grounded.tar``,
    ``llava_v1_5_mix665k.json`` and the image folders coco, gqa, ocr_vqa, textvqa and vg; for "augmented", it is a
    dataset folder by ``fivl augment``.
    """

    BUILDER_CONFIGS = [  # noqa: RUF012 - datasets' own contract
        EvidenceConfig(name="release", description="From the authors' release."),
        EvidenceConfig(name="augmented", description="From rows by `fivl augment`."),
    ]
    DEFAULT_CONFIG_NAME = "release"
    OWN_OPTIONS = frozenset({"evidence_only", "protocol"})

    def plan(self, work: Path) -> Plan:
        sources = self.sources()
        return rows_plan(sources) if self.config.name == "augmented" else release_plan(sources, work)
