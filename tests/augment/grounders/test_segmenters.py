import sys
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import segment_anything
import torch
import transformers
from grounding_requests import noise
from random_models import save_sam2

from fivl_hf.augment.grounders import segmenters
from fivl_hf.augment.grounders.segmenters import SamSegmenter, load_segmenter


def test_many_boxes_go_through_sam_in_chunks(models, monkeypatch):
    boxes = np.array([[x, y, x + 20, y + 15] for x in range(0, 40, 4) for y in range(0, 30, 6)], dtype=float)
    segmenter = SamSegmenter(models / "sam")
    whole = np.stack(list(segmenter.segment(noise(64, 48), boxes)))
    assert whole.shape == (50, 48, 64)
    for limit, value in (("CHUNK", 7), ("CHUNK_PIXELS", 10_000)):
        monkeypatch.setattr(f"fivl_hf.augment.grounders.segmenters.{limit}", value)
        assert (np.stack(list(segmenter.segment(noise(64, 48), boxes))) == whole).mean() > 0.999


def test_segment_anything_without_torchvision_says_so(tmp_path, monkeypatch):
    for name in ["torchvision", *(name for name in sys.modules if name.startswith("torchvision."))]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("segment_anything")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"needs torchvision: `pip install fivl-hf\[segment-anything\]`"):
        load_segmenter(tmp_path / "sam_vit_b.pth")


BOXES = np.array([[5, 5, 40, 40], [0, 0, 90, 60], [0, 0, 90, 60], [30, 10, 80, 50]], dtype=float)


def test_segment_anything_runs_on_its_own_checkpoint(tmp_path, monkeypatch):
    """The package's real vit_b, its encoder two layers deep, with random weights, saved and read as a checkpoint."""
    torch.manual_seed(0)
    path = tmp_path / "sam_vit_b.pth"
    small = partial(
        import_module("segment_anything.build_sam")._build_sam,
        encoder_embed_dim=768,
        encoder_depth=2,
        encoder_num_heads=12,
        encoder_global_attn_indexes=[1],
    )
    monkeypatch.setitem(segment_anything.sam_model_registry, "vit_b", small)
    torch.save(small().state_dict(), path)
    monkeypatch.setattr(segmenters, "CHUNK", 2)
    masks = np.stack(list(load_segmenter(path).segment(noise(90, 60), BOXES)))
    assert (masks.shape, masks.dtype) == ((4, 60, 90), bool)
    assert (masks[1] == masks[2]).mean() > 0.99
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is not a checkpoint of segment-anything"):
        load_segmenter(path)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint nothing.pth"):
        load_segmenter("nothing.pth")


def test_sam2_turns_boxes_into_masks(tmp_path, monkeypatch):
    segmenter = load_segmenter(save_sam2(tmp_path / "sam2"))
    whole = np.stack(list(segmenter.segment(noise(90, 60), BOXES)))
    assert (whole.shape, whole.dtype) == ((4, 60, 90), bool)
    monkeypatch.setattr(segmenters, "CHUNK", 1)
    again = np.stack(list(segmenter.segment(noise(90, 60), BOXES)))
    assert (again == whole).mean() > 0.999


def test_the_papers_masks_are_the_union_of_sams_candidates(models):
    image, boxes = noise(90, 60, 1), np.array([[5.0, 5, 60, 40], [0, 0, 90, 60]])
    best, united = (list(load_segmenter(models / "sam", union=union).segment(image, boxes)) for union in (False, True))
    processor = transformers.SamProcessor.from_pretrained(models / "sam")
    model = transformers.SamModel.from_pretrained(models / "sam").eval()
    inputs = processor(image, input_boxes=[boxes.tolist()], return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs, multimask_output=True).pred_masks
    (candidates,) = processor.image_processor.post_process_masks(
        logits, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )
    assert candidates.shape[1] == 3
    for number, mask in enumerate(united):
        assert np.array_equal(mask, candidates[number].float().mean(dim=0).numpy() > 0)
    assert any(not np.array_equal(a, b) for a, b in zip(best, united, strict=True))
