from pathlib import Path
from typing import Any

import pytest
from synthetic_release import make_release

from fivl_hf.building.run import BuildSettings, build_dataset, builder_class
from fivl_hf.storage import load_rows


@pytest.fixture(scope="package")
def release(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A release of 150 samples with everything that can be wrong with one."""
    folder = tmp_path_factory.mktemp("release")
    return make_release(folder / "files", 150, canary=folder / "canary")


@pytest.fixture(scope="package")
def imported(release: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The samples of the release that have evidence as a dataset repository, and the run that built it."""
    output = tmp_path_factory.mktemp("imported") / "fivl-instruct"
    builder = builder_class("fivl_instruct")(
        cache_dir=str(tmp_path_factory.mktemp("cache")), data_dir=str(release.folder), evidence_only=True
    )
    return output, build_dataset(builder, BuildSettings(output, workers=2))


@pytest.fixture(scope="module")
def rows(imported: tuple[Path, Any]) -> Any:
    """The rows of that repository."""
    return load_rows(imported[0], "train")
