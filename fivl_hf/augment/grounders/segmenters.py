"""Segmenters: boxes to masks by SAM and SAM 2 through transformers, or by the original segment-anything package."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fivl_hf.augment.grounding import WITHOUT_MODELS
from fivl_hf.masks import BoolArray, FloatArray
from fivl_hf.models import hub_options

__all__ = ["SamSegmenter", "SegmentAnythingSegmenter", "load_segmenter"]

# As many boxes as the paper sends through SAM at a time, and as many pixels as their masks may have at a time.
CHUNK = 150
CHUNK_PIXELS = 100_000_000


def load_segmenter(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    union: bool = False,
) -> "SamSegmenter | SegmentAnythingSegmenter":
    """Load a segmenter: a ``.pth`` checkpoint of the original package, or a SAM or SAM 2 folder or Hub id.

    Args:
        union: take the union of the three masks that SAM proposes for a box, as the paper's code does, in place of the
            one that it makes for a prompt without doubt.
    """
    if Path(model).suffix in (".pth", ".pt"):
        return SegmentAnythingSegmenter(model, device=device, union=union)
    return SamSegmenter(model, device=device, dtype=dtype, union=union)


class SamSegmenter:
    """SAM or SAM 2 through transformers: the image is encoded once, boxes go through the decoder in chunks.

    Args:
        model: folder or Hub id, such as ``facebook/sam-vit-huge`` or ``facebook/sam2.1-hiera-large`` (SAM 2's image
            processor needs torchvision).
        dtype: of the computation on a GPU; weights stay in float32 (autocast).
        union: see :func:`load_segmenter`.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        union: bool = False,
    ) -> None:
        from transformers import AutoConfig, Sam2Model, Sam2Processor, SamModel, SamProcessor

        options = hub_options(model, "segmenter", WITHOUT_MODELS)
        kind = AutoConfig.from_pretrained(model, **options).model_type
        classes: dict[str, tuple[Any, Any]] = {
            "sam": (SamModel, SamProcessor),
            "sam2": (Sam2Model, Sam2Processor),
            # What Meta's SAM 2 checkpoints are declared as; the image part of them is the same.
            "sam2_video": (Sam2Model, Sam2Processor),
        }
        if kind not in classes:
            raise ValueError(f"segmenter {model}: model type {kind!r} is not one of {tuple(classes)}")
        model_class, processor_class = classes[kind]
        self._processor = processor_class.from_pretrained(model, **options)
        self._model = model_class.from_pretrained(model, **options).to(device).eval()
        self._dtype, self._union = dtype, union

    def segment(self, image: Image.Image, boxes: FloatArray) -> Iterator[BoolArray]:
        """Yield the boxes' masks (H, W), one by one."""
        pixels = np.array(image)
        encoded: Any = None
        for chunk in _chunks(boxes, CHUNK):
            small, sizes, encoded = self._decoded(pixels, chunk, encoded)
            for piece in _chunks(small, max(1, CHUNK_PIXELS // (image.width * image.height))):
                (masks,) = self._processor.image_processor.post_process_masks(piece[None], *sizes)
                yield from masks.any(dim=1).numpy()

    @torch.inference_mode()
    def _decoded(self, pixels: NDArray[np.uint8], boxes: FloatArray, encoded: Any) -> tuple[Any, list[Any], Any]:
        """Return mask logits (n, candidates, h, w), what scales them up, and the encoded image for the next boxes."""
        device = self._model.device
        inputs = self._processor(
            pixels, input_boxes=[boxes.tolist()], input_data_format="channels_last", return_tensors="pt"
        )
        prompts = inputs["input_boxes"].to(device, torch.float32)
        with torch.autocast(device.type, self._dtype, enabled=self._dtype != torch.float32):
            if encoded is None:
                encoded = self._model.get_image_embeddings(inputs["pixel_values"].to(device))
            outputs = self._model(image_embeddings=encoded, input_boxes=prompts, multimask_output=self._union)
        sizes = [inputs[name] for name in ("original_sizes", "reshaped_input_sizes") if name in inputs]
        return outputs.pred_masks[0].float().cpu(), sizes, encoded


class SegmentAnythingSegmenter:
    """The original ``segment-anything`` package and its checkpoints (``sam_vit_h_4b8939.pth`` and the like)."""

    def __init__(self, checkpoint: str | Path, *, device: str | torch.device = "cpu", union: bool = False) -> None:
        try:
            from segment_anything import SamPredictor, sam_model_registry
        except ImportError as error:
            missing = "torchvision" if "torchvision" in str(error) else "segment-anything"
            raise ImportError(
                f"a .pth checkpoint is read by the segment-anything package, which needs {missing}: "
                "`pip install fivl-hf[segment-anything]`"
            ) from error
        self._union = union
        path = Path(checkpoint)
        if not path.is_file():
            raise FileNotFoundError(f"there is no checkpoint {path}")
        weights = torch.load(path, map_location="cpu", weights_only=True)
        self._predictor = SamPredictor(_matching(sam_model_registry, weights, path).to(device).eval())

    def segment(self, image: Image.Image, boxes: FloatArray) -> Iterator[BoolArray]:
        """Yield the boxes' masks (H, W), one by one."""
        with torch.inference_mode():
            self._predictor.set_image(np.array(image))
        for chunk in _chunks(boxes, min(CHUNK, max(1, CHUNK_PIXELS // (image.width * image.height)))):
            yield from self._chunk(image, chunk)

    @torch.inference_mode()
    def _chunk(self, image: Image.Image, boxes: FloatArray) -> BoolArray:
        prompts = torch.as_tensor(boxes, dtype=torch.float32, device=self._predictor.device)
        prompts = self._predictor.transform.apply_boxes_torch(prompts, image.size[::-1])
        masks, _, _ = self._predictor.predict_torch(None, None, boxes=prompts, multimask_output=self._union)
        return masks.any(dim=1).cpu().numpy()


def _matching(registry: Any, weights: Any, path: Path) -> Any:
    """Return the package's model (vit_b, vit_l or vit_h) to which the weights belong, by the width of its encoder."""
    widths = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
    try:
        kind = widths[weights["image_encoder.pos_embed"].shape[-1]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a checkpoint of segment-anything's vit_b, vit_l or vit_h") from error
    model = registry[kind]()
    model.load_state_dict(weights)
    return model


def _chunks(items: Any, count: int) -> Iterator[Any]:
    for start in range(0, len(items), count):
        yield items[start : start + count]
