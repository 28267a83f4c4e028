import numpy as np
import pytest
import torch
from grounding_requests import noise, request
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor, SamModel, SamProcessor

from fivl_hf.augment.grounders.detectors import GroundingDinoDetector
from fivl_hf.augment.grounders.segmenters import SamSegmenter
from fivl_hf.augment.grounding import (
    BoxGrounder,
    clean_mask,
)
from fivl_hf.masks import box_iou


def naive(folder, detector, threshold, image, labels):
    """The paper's steps for one image, written plainly: one label, one forward pass, one box, one mask."""
    processor = AutoProcessor.from_pretrained(folder / detector)
    dino = AutoModelForZeroShotObjectDetection.from_pretrained(folder / detector).eval()
    sam, sam_processor = SamModel.from_pretrained(folder / "sam").eval(), SamProcessor.from_pretrained(folder / "sam")
    groundings, known, earlier = {}, [], []
    for label in labels:
        inputs = processor(images=image, text=label + ".", return_tensors="pt")
        with torch.no_grad():
            outputs = dino(**inputs)
        (result,) = processor.image_processor.post_process_object_detection(
            outputs, threshold=threshold, target_sizes=torch.tensor([image.size[::-1]])
        )
        mask, boxes = np.zeros(image.size[::-1], dtype=bool), []
        for box in result["boxes"].double().numpy():
            box = np.clip(box, 0, [*image.size, *image.size])
            same = [k for k in known if box_iou([box], [k[0]])[0, 0] > 0.95]
            if not same:
                prompt = sam_processor(image, input_boxes=[[box.tolist()]], return_tensors="pt")
                with torch.no_grad():
                    out = sam(
                        pixel_values=prompt["pixel_values"],
                        input_boxes=prompt["input_boxes"].float(),
                        multimask_output=False,
                    )
                (full,) = sam_processor.image_processor.post_process_masks(
                    out.pred_masks, prompt["original_sizes"], prompt["reshaped_input_sizes"]
                )
                known.append((box, clean_mask(full[0, 0].numpy())))
                same = known[-1:]
            if same[0][1].any():
                mask = mask | same[0][1]
                boxes.append(tuple(same[0][0]))
        if mask.any():
            for other in earlier:
                if (mask & other).sum() > 0.95 * (mask | other).sum():
                    mask = other
                    break
            earlier.append(mask)
            groundings[label] = (mask, tuple(dict.fromkeys(boxes)), float(result["scores"].max()))
    return groundings


@pytest.mark.parametrize(("detector", "threshold"), [("dino", 0.93), ("mm", 0.62)])
def test_batched_grounding_equals_one_at_a_time(models, detector, threshold):
    images = [noise(64, 48, 0), noise(50, 50, 1), noise(64, 48, 2), noise(30, 90, 3), noise(64, 48, 4)]
    labels = ("red car", "dog", "a very old tree")
    grounder = BoxGrounder(
        GroundingDinoDetector(models / detector, threshold=threshold, batch_size=4), SamSegmenter(models / "sam")
    )
    found = grounder.ground([request(str(i), image, *labels) for i, image in enumerate(images)])
    count = 0
    for image, groundings in zip(images, found, strict=True):
        expected = naive(models, detector, threshold, image, labels)
        for label, grounding in zip(labels, groundings, strict=True):
            assert (grounding is None) == (label not in expected)
            if grounding:
                mask, boxes, score = expected[label]
                count += len(boxes)
                np.testing.assert_allclose(grounding.boxes, boxes, atol=1e-3)
                assert grounding.score == pytest.approx(score, abs=1e-5)
                assert (grounding.mask != mask).mean() < 0.002  # a border pixel may round the other way
    assert count > 20


def test_a_image_of_one_pixel(models):
    grounder = BoxGrounder(GroundingDinoDetector(models / "dino"), SamSegmenter(models / "sam"))
    ((found,),) = grounder.ground([request("1", noise(1, 1), "dog")])
    assert found is None or found.mask.shape == (1, 1)


def test_half_precision_finds_about_the_same(models):
    full, half = (
        GroundingDinoDetector(models / "dino", threshold=0.5, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    a, b = (detector.detect([(noise(64, 48), "dog")])[0] for detector in (full, half))
    assert abs(len(a.boxes) - len(b.boxes)) <= 2
    masks = list(SamSegmenter(models / "sam", dtype=torch.bfloat16).segment(noise(64, 48), a.boxes))
    assert {mask.shape for mask in masks} == {(48, 64)}


def test_models_that_are_none_are_named(models, tmp_path):
    with pytest.raises(FileNotFoundError, match="no segmenter folder"):
        SamSegmenter(tmp_path / "none")
    with pytest.raises(ValueError, match="'grounding-dino' is not one of"):
        SamSegmenter(models / "dino")
