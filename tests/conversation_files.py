"""Files of conversations and questions, as people have them."""

import json
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from fivl_hf.augment.inputs.conversations import Record
from fivl_hf.augment.inputs.readers import read_conversations
from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.images import image_bytes

IMAGE = image_bytes(PILImage.new("RGB", (6, 4), "red"))


def read(path: Path, **options: Any) -> list[Record]:
    """Everything that is read from a file."""
    return list(read_conversations(InputSettings(str(path), **options)))


def write(path: Path, content: Any) -> Path:
    """Write text, or anything else as JSON."""
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path
