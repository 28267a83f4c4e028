"""One contract for every dataset builder, present and future."""

import importlib
import inspect
from pathlib import Path

import datasets
import pytest
import yaml

from fivl_hf.schema import FEATURES, validate_row

ROOT = Path(__file__).parents[2] / "dataset_builders"
FOLDERS = sorted(path.name for path in ROOT.iterdir() if (path / "README.md").exists())
SMALL = {"fivl_scenes": {"seed": 7, "train_rows": 6, "validation_rows": 2, "test_rows": 2}}


def builder_class(name):
    module = importlib.import_module(f"fivl_hf.dataset_builders.{name}.{name}")
    (found,) = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, datasets.GeneratorBasedBuilder) and member.__module__ == module.__name__
    ]
    return found


def test_every_folder_has_small_settings():
    assert set(FOLDERS) == set(SMALL)


@pytest.mark.parametrize("name", FOLDERS)
def test_builds_checked_rows_in_one_and_two_processes(name, tmp_path, monkeypatch):
    # Small enough chunks that two processes both have some; spawned or forked, they see the module as it is here.
    monkeypatch.setattr(importlib.import_module(f"fivl_hf.dataset_builders.{name}.{name}"), "_CHUNK", 2)
    built = []
    for processes in (None, 2):
        builder = builder_class(name)(cache_dir=str(tmp_path / str(processes)), **SMALL[name])
        builder.download_and_prepare(num_proc=processes)
        built.append(builder.as_dataset())
        if processes:
            assert len(built[-1].cache_files["train"]) == processes
    one, two = built
    assert set(one) == {"train", "validation", "test"}
    for split in one:
        assert one[split].features == FEATURES
        assert one[split]["id"] == two[split]["id"]
        assert len(set(one[split]["id"])) == len(one[split])
        for row in one[split]:
            validate_row(row)


@pytest.mark.parametrize("name", FOLDERS)
def test_card_names_licence_and_columns(name):
    card = (ROOT / name / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"]
    assert "fivl" in front["tags"]
    assert all(f"`{column}`" in card for column in FEATURES)
