import numpy as np
import pytest
from families import FAMILIES, make, on_torchvision

from fivl_hf.geometry import token_boxes
from fivl_hf.geometry.probe import probed_boxes

SIZES = [(60, 60), (1400, 300)] + [
    tuple(int(side) for side in np.exp(np.random.default_rng(seed).uniform(np.log(60), np.log(900), 2)))
    for seed in range(3)
]


SIDE = 168  # a cell of 21 pixels: fine enough for the probe


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "Aya Vision"])
def test_closed_forms_are_what_the_model_sees(name, record_property):
    record_property("table", (name, "geometry"))
    processor, model = make(name, SIDE)
    errors = []
    for number, size in enumerate(SIZES):
        # Some processors treat a lone image otherwise.
        images = 2 if number % 4 == 3 else 1
        boxes = token_boxes(processor, size, images=images)
        probed = probed_boxes(model.config, processor, size, images=images)
        assert boxes.shape == probed.shape, f"{size}"
        assert np.array_equal(np.isnan(boxes), np.isnan(probed)), f"{size}"
        errors.append(np.nanmean(np.abs(boxes - probed)))
    assert np.mean(errors) <= 0.15, dict(zip(SIZES, errors, strict=True))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "Mllama"])
def test_as_many_boxes_as_placeholders(name):
    """Two images of different sizes in one sample, one in the other, in one padded batch."""
    from PIL import Image

    from fivl_hf.models import image_token_id

    processor, model = make(name)
    sizes = [[(90, 61), (200, 333)], [(64, 64)]]
    content = [[{"type": "image"}] * len(group) + [{"type": "text", "text": "red"}] for group in sizes]
    texts = [processor.apply_chat_template([{"role": "user", "content": c}], tokenize=False) for c in content]
    images = [[Image.new("RGB", size) for size in group] for group in sizes]
    inputs = processor(text=texts, images=images, padding=True, return_tensors="pt")
    found = (inputs["input_ids"] == image_token_id(model.config)).sum(dim=1).tolist()
    expected = [
        sum(len(token_boxes(processor, size, images=len(group), model_config=model.config)) for size in group)
        for group in sizes
    ]
    assert found == expected


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "Aya Vision"])
def test_closed_forms_hold_for_both_backends(name):
    """torchvision's image processors cut, pad and round by their own code."""
    processor, model = make(name, SIDE)
    on_torchvision(processor)
    assert not type(processor.image_processor).__name__.endswith("Pil")
    for images, size in [(1, (230, 150)), (1, (97, 301)), (2, (640, 480)), (1, (71, 400))]:
        boxes = token_boxes(processor, size, images=images)
        probed = probed_boxes(model.config, processor, size, images=images)
        assert np.array_equal(np.isnan(boxes), np.isnan(probed)), f"{size}"
        assert np.nanmean(np.abs(boxes - probed)) <= 0.15, f"{size}"
