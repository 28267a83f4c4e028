from pathlib import Path

import pytest
from random_models import save_grounding_dino, save_sam


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of random detectors (dino, mm) and a segmenter (sam) of the real classes."""
    folder = tmp_path_factory.mktemp("models")
    save_grounding_dino(folder / "dino", size=128)
    save_grounding_dino(folder / "mm", mm=True, size=128)
    save_sam(folder / "sam")
    return folder
