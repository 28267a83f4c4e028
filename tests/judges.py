"""A language model that judges evidence by looking, and what it was shown."""

import base64
import io
import json
from typing import Any

import numpy as np
from PIL import Image
from scripted_server import Answer


def image_of(body: dict[str, Any]) -> np.ndarray:
    """The pixels of the image in a request."""
    (image,) = [part for part in body["messages"][1]["content"] if part["type"] == "image_url"]
    data = base64.b64decode(image["image_url"]["url"].split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)


def kind_of(body: dict[str, Any]) -> str:
    """Which of the judge's questions a request asks."""
    system = body["messages"][0]["content"]
    return "importance" if "important" in system else "seg1" if "except one region" in system else "seg2"


def honest(body: dict[str, Any], number: int) -> Answer:
    """Judges by looking: is there anything but black and grey?"""
    pixels = image_of(body)
    colourful = (pixels.max(axis=2) - pixels.min(axis=2) > 60).sum()
    if kind_of(body) == "importance":
        return Answer('{"important": true, "degree": 8}')
    return Answer(json.dumps({"visible": bool(colourful > 20)}))
