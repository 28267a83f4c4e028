"""TODO."""

import pytest
from random_models import save_grounding_dino, save_sam


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_grounding_dino(folder / "dino", size=128)
    save_grounding_dino(folder / "mm", mm=True, size=128)
    save_sam(folder / "sam")
    return folder
