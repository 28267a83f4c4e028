"""The options of the commands that find words in images."""

from typing import Any

from fivl_hf.augment.tools import ToolSettings
from fivl_hf.cli.options import positive

__all__ = ["add_grounder_models"]


def add_grounder_models(group: Any) -> None:
    """Add the models of the grounders grounded-sam and sam3, and the detector's batch size."""
    group.add_argument("--detector", default=ToolSettings.detector, help="Grounding DINO or MM Grounding DINO")
    group.add_argument(
        "--segmenter", default=ToolSettings.segmenter, help="SAM or SAM 2, or a segment-anything .pth checkpoint"
    )
    group.add_argument("--sam3", default=ToolSettings.sam3, help="model of the grounder sam3")
    group.add_argument(
        "--batch-size",
        type=positive,
        default=ToolSettings.batch_size,
        help="detector's (image, expression) pairs at a time",
    )
