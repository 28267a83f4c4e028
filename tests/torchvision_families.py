"""Run by test_families.py with torchvision on the path: closed forms against probes, pictures through torchvision."""

import sys

import torchvision_shim  # noqa: F401 - before transformers looks for torchvision

import numpy as np  # isort: skip
import transformers as tf  # isort: skip

import families  # isort: skip
from fivl_hf.geometry import token_boxes  # isort: skip
from fivl_hf.geometry.probe import probed_boxes  # isort: skip

SIZES = [(230, 150), (97, 301), (640, 480), (333, 333), (71, 400)]


def on_torchvision() -> None:
    """Every image processor that families names, in its torchvision version."""
    for module in (families, families.tf):
        for name in [name for name in dir(module) if name.endswith("ImageProcessorPil")]:
            setattr(module, name, getattr(tf, name.removesuffix("Pil")))


def main(names: list[str]) -> None:
    on_torchvision()
    for name in names or [name for name in families.FAMILIES if name != "Aya Vision"]:
        processor, model = families.make(name, 168)
        assert not type(processor.image_processor).__name__.endswith("Pil"), name
        errors = []
        for number, size in enumerate(SIZES):
            images = 2 if number == 3 else 1
            boxes = token_boxes(processor, size, images=images)
            probed = probed_boxes(model.config, processor, size, images=images)
            same = boxes.shape == probed.shape and np.array_equal(np.isnan(boxes), np.isnan(probed))
            errors.append(np.nanmean(np.abs(boxes - probed)) if same else np.inf)
        print(f"{name}: {np.mean(errors):.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
