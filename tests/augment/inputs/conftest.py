from pathlib import Path

import pytest
from conversation_files import IMAGE


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders for images, the second of which holds ``coco/a.jpg``."""
    (tmp_path / "one" / "coco").mkdir(parents=True)
    (tmp_path / "two" / "coco").mkdir(parents=True)
    (tmp_path / "two" / "coco" / "a.jpg").write_bytes(IMAGE)
    return tmp_path / "one", tmp_path / "two"
