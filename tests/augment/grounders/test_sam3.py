import numpy as np
import pytest
import torch
import transformers
from grounding_requests import noise
from random_models import save_sam3

from fivl_hf.augment.grounders.sam3 import Sam3Grounder
from fivl_hf.augment.grounding import (
    GroundingRequest,
)


def test_sam3_grounds_words(tmp_path):
    """The grounder unites the instances that SAM 3's own processor gives for one image and one text."""
    folder, image = save_sam3(tmp_path / "sam3"), noise(90, 60)
    asked = GroundingRequest("1", (image,), (), ("red car", "dog", "red car"))
    ((car, _, again),) = Sam3Grounder(folder, threshold=0.2).ground([asked])
    processor, model = (
        transformers.Sam3Processor.from_pretrained(folder),
        transformers.Sam3Model.from_pretrained(folder),
    )
    with torch.no_grad():
        outputs = model.eval()(**processor(images=image, text="red car", return_tensors="pt"))
    (plain,) = processor.post_process_instance_segmentation(outputs, threshold=0.2, target_sizes=[(60, 90)])
    assert np.array_equal(car.mask, plain["masks"].numpy().astype(bool).any(axis=0))
    assert car.score == pytest.approx(float(plain["scores"].max()), abs=1e-4)
    assert 0 < len(car.boxes) <= len(plain["boxes"])
    assert again.boxes == car.boxes
    assert Sam3Grounder(folder, threshold=0.99).ground([asked]) == [[None, None, None]]
