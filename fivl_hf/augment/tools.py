"""The tools of a worker process, made from settings that can be sent to it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fivl_hf.models import hub_options, torch_dtype, usable_device

# The command line reads names and defaults here: what takes long to import waits until it is used.
if TYPE_CHECKING:
    from fivl_hf.augment.expressions import ProtocolName
    from fivl_hf.augment.grounding import Grounder
    from fivl_hf.augment.rows import Tools
    from fivl_hf.augment.words import WordFinder

__all__ = ["GROUNDERS", "ToolSettings"]

GROUNDERS = ("grounded-sam", "sam3", "annotations", "scenes")


@dataclass(frozen=True)
class ToolSettings:
    """The grounder of a worker and its options; calling it makes the tools.

    Attributes:
        grounder: one of ``GROUNDERS``.
        detector, segmenter: models of "grounded-sam": folders, Hub ids, or a segment-anything checkpoint.
        sam3: model of "sam3".
        annotations: index of "annotations", see :func:`fivl_hf.augment.grounders.annotations.index_annotations`.
        threshold: smallest score of a box.
        batch_size: (image, expression) pairs that go through the detector at a time.
        device: None for a GPU each, if there are any, else the CPU.
        dtype: None for bfloat16 on GPUs that have it, float32 elsewhere.
        workers: how many share the CPU's cores.
        protocol: "paper" finds boxes and masks in the image padded to 336×336, takes all of SAM's three candidates
            together, and leaves proper nouns out.
    """

    grounder: str = "grounded-sam"
    detector: str = "IDEA-Research/grounding-dino-tiny"
    segmenter: str = "facebook/sam-vit-huge"
    sam3: str = "facebook/sam3"
    annotations: Path | None = None
    threshold: float = 0.3
    batch_size: int = 8
    device: str | None = None
    dtype: str | None = None
    tagger: str = "hanta"
    workers: int = 1
    protocol: "ProtocolName" = "default"

    def __call__(self, worker: int) -> "Tools":
        """Return the tools of worker number ``worker``."""
        from fivl_hf.augment.extractors.noun_phrases import NounPhraseExtractor
        from fivl_hf.augment.rows import Tools

        return Tools(NounPhraseExtractor(), self._grounder(worker), self.tagger, self.protocol)

    def require_models(self, instead: str | None = None) -> None:
        """Check that the grounder can be loaded, before anything is asked or paid.

        Args:
            instead: what the error suggests where a model cannot be had.

        Raises:
            ValueError: the device cannot be used.
            FileNotFoundError: a model is neither here nor to be had from the Hub.
        """
        from fivl_hf.augment.grounding import WITHOUT_MODELS

        needed = {
            "grounded-sam": {"detector": self.detector, "segmenter": self.segmenter},
            "sam3": {"SAM 3 model": self.sam3},
        }
        if self.device is not None and self.grounder in needed:
            usable_device(self.device)
        for kind, name in needed.get(self.grounder, {}).items():
            hub_options(name, kind, instead or WITHOUT_MODELS)

    def word_finder(self, thresholds: Sequence[float]) -> "WordFinder":
        """Return a finder of single words at several thresholds, which loads its models once.

        On scenes it is exact and has no threshold.

        Raises:
            ValueError: a grounder that finds no single words.
        """
        from fivl_hf.augment.grounders.thresholds import ScoreLimit, SharedDetector
        from fivl_hf.augment.scenes import SceneGrounder, scene_image
        from fivl_hf.augment.words import WordFinder

        if self.grounder == "scenes":
            return WordFinder({None: SceneGrounder()}, scene_image)
        if self.grounder not in ("grounded-sam", "sam3"):
            raise ValueError(f"{self.grounder!r} does not find single words: take 'grounded-sam', 'sam3' or 'scenes'")
        lowest = replace(self, threshold=min(thresholds))
        common = lowest._common(0)
        if self.grounder == "sam3":
            model = lowest._sam3_grounder(common)
            return WordFinder({each: model.at(each) for each in sorted(thresholds)})
        detector, segmenter = lowest._box_models(common)
        shared = SharedDetector(detector)
        limits = {each: ScoreLimit(shared, each) for each in sorted(thresholds)}
        return WordFinder({each: self._box_grounder(limit, segmenter) for each, limit in limits.items()})

    def _grounder(self, worker: int) -> "Grounder":
        if self.grounder == "scenes":
            from fivl_hf.augment.scenes import SceneGrounder

            return SceneGrounder()
        if self.grounder == "annotations":
            from fivl_hf.augment.grounders.annotations import AnnotationsGrounder

            if self.annotations is None:
                raise ValueError("the grounder 'annotations' needs annotation files: --annotations")
            return AnnotationsGrounder(self.annotations)
        if self.grounder not in GROUNDERS:
            raise ValueError(f"grounder must be one of {GROUNDERS}, got {self.grounder!r}")
        return self._neural(worker)

    def _neural(self, worker: int) -> "Grounder":
        common = self._common(worker)
        if self.grounder == "sam3":
            return self._sam3_grounder(common)
        if self.grounder != "grounded-sam":
            raise NotImplementedError(
                f"the grounder {self.grounder!r} is in GROUNDERS, but ToolSettings._neural does not make it"
            )
        return self._box_grounder(*self._box_models(common))

    def _sam3_grounder(self, common: dict[str, Any]) -> Any:
        from fivl_hf.augment.grounders.sam3 import Sam3Grounder

        return Sam3Grounder(self.sam3, threshold=self.threshold, **common)

    def _box_models(self, common: dict[str, Any]) -> tuple[Any, Any]:
        from fivl_hf.augment.grounders.detectors import GroundingDinoDetector
        from fivl_hf.augment.grounders.segmenters import load_segmenter

        detector = GroundingDinoDetector(self.detector, threshold=self.threshold, batch_size=self.batch_size, **common)
        return detector, load_segmenter(self.segmenter, union=self.protocol == "paper", **common)

    def _box_grounder(self, detector: Any, segmenter: Any) -> "Grounder":
        from fivl_hf.augment.grounding import BoxGrounder, PaddedGrounder

        grounder = BoxGrounder(detector, segmenter)
        return PaddedGrounder(grounder) if self.protocol == "paper" else grounder

    def _common(self, worker: int) -> dict[str, Any]:
        import torch

        device, dtype = self._device(worker)
        if device == "cpu":
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // self.workers))
        return {"device": device, "dtype": dtype}

    def _device(self, worker: int) -> tuple[str, Any]:
        import torch

        device = self.device
        if device is None:
            device = f"cuda:{worker % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
        usable_device(device)
        dtype = self.dtype
        if dtype is None:
            dtype = "bfloat16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "float32"
        return device, torch_dtype(dtype)
