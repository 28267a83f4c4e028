"""One contract for every dataset builder, present and future."""

import gc
import importlib
import inspect
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import datasets
import pytest
import yaml
from builder_sources import SOURCES

from fivl_hf.building.run import BuildSettings, build_dataset, builder_class, builder_names
from fivl_hf.schema import BENCHMARK_FEATURES, validate_row
from fivl_hf.storage import with_encoded_images

ROOT = Path(__file__).parents[2] / "dataset_builders"
FOLDERS = sorted(path.name for path in ROOT.iterdir() if (path / "README.md").exists())


@pytest.fixture(scope="module", params=FOLDERS)
def made(request, tmp_path_factory):
    """Name, configuration and a built repository of each builder."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "sources").mkdir()
    options = SOURCES[request.param](folder / "sources")
    builder = builder_class(request.param)(cache_dir=str(folder / "cache"), **options)
    build_dataset(builder, BuildSettings(folder / "built"))
    return request.param, options, folder / "built"


def test_every_folder_has_sources_and_is_found():
    assert set(FOLDERS) == set(SOURCES) == set(builder_names())


def test_builder_is_a_datasets_builder_of_its_module(made):
    module = importlib.import_module(f"fivl_hf.dataset_builders.{made[0]}.{made[0]}")
    (found,) = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, datasets.GeneratorBasedBuilder) and member.__module__ == module.__name__
    ]
    assert found is builder_class(made[0])


def test_ordinary_builder_gives_the_same_rows_in_one_and_two_processes(made, tmp_path, monkeypatch):
    name, options, folder = made
    monkeypatch.setattr(builder_class(name), "chunk", 2)
    built = datasets.load_dataset(str(folder))
    for processes in (None, 2):
        builder = builder_class(name)(cache_dir=str(tmp_path / str(processes)), **options)
        builder.download_and_prepare(num_proc=processes)
        found = builder.as_dataset()
        assert set(found) == set(built)
        for split in found:
            assert found[split].features == built[split].features == builder_class(name).FEATURES
            rows = {row["id"]: row for row in with_encoded_images(found[split])}
            assert len(rows) == len(found[split])
            assert rows == {row["id"]: row for row in with_encoded_images(built[split])}
            for row in rows.values():
                validate_row(row)


def test_streaming_gives_the_same_rows_and_leaves_nothing(made, tmp_path, monkeypatch):
    """Also from a copy in another process; indexes are kept while somebody reads, and no longer."""
    name, options, folder = made
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    builder = builder_class(name)(cache_dir=str(tmp_path / "cache"), **options)
    streamed = builder.as_streaming_dataset()
    del builder
    copied = pickle.loads(pickle.dumps(streamed))
    for split, rows in datasets.load_dataset(str(folder)).items():
        ids = sorted(rows["id"])
        assert sorted(row["id"] for row in copied[split]) == ids
        del copied[split]
        gc.collect()
        assert sorted(row["id"] for row in streamed[split]) == ids
    assert not list((tmp_path / "cache").rglob("*.work"))
    del streamed, copied
    gc.collect()
    assert not list((tmp_path / "tmp").iterdir())


def test_repository_loads_streams_and_has_configurations_without_this_package(made, tmp_path):
    _, _, folder = made
    code = (
        "import sys; sys.modules['fivl_hf'] = None\n"
        "from datasets import get_dataset_config_names, load_dataset\n"
        f"folder, cache = {str(folder)!r}, {str(tmp_path)!r}\n"
        "whole = load_dataset(folder, cache_dir=cache)\n"
        "for split in whole:\n"
        "    streamed = [row['id'] for row in load_dataset(folder, split=split, streaming=True)]\n"
        "    assert streamed == whole[split]['id'], split\n"
        "names = get_dataset_config_names(folder)\n"
        "parts = [load_dataset(folder, name, cache_dir=cache) for name in names if name != 'default']\n"
        "assert 'default' in names\n"
        "if parts:\n"
        "    rows = sum(len(part[split]) for part in parts for split in part)\n"
        "    assert rows == sum(len(whole[split]) for split in whole)\n"
        "print(names)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_built_card_says_what_a_user_needs(made):
    name, _, folder = made
    text = (folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"]
    assert "fivl" in front["tags"]
    infos = front["dataset_info"] if isinstance(front["dataset_info"], list) else [front["dataset_info"]]
    assert {config["config_name"] for config in front["configs"]} == {
        info.get("config_name", "default") for info in infos
    }
    assert all(f"`{column}`" in text for column in builder_class(name).FEATURES)
    assert "2412.14672" in text
    pictures = sorted((folder / "pictures").glob("*.jpg"))
    assert pictures
    assert all(f"(pictures/{path.name})" in text for path in pictures)


def test_source_card_names_licence_and_columns(made):
    card = (ROOT / made[0] / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"]
    assert all(f"`{column}`" in card for column in builder_class(made[0]).FEATURES)


def test_benchmarks_keep_every_question(made):
    name, _, folder = made
    if builder_class(name).FEATURES != BENCHMARK_FEATURES:
        return
    whole = datasets.load_dataset(str(folder))
    for split in whole.values():
        assert len(split) == 6
    with_evidence = datasets.load_dataset(str(folder), "with_evidence")
    assert {split: len(rows) for split, rows in with_evidence.items()} == dict.fromkeys(whole, 3)


def test_data_dir_is_asked_for(made, tmp_path):
    name, options, _ = made
    if "data_dir" not in options:
        return
    empty = tmp_path / "empty"
    empty.mkdir()
    for wrong, message in ((None, "needs data_dir"), (str(empty), "holds no"), (str(tmp_path / "no"), "no folder")):
        builder = builder_class(name)(cache_dir=str(tmp_path / "cache"), **{**options, "data_dir": wrong})
        with pytest.raises(ValueError, match=message):
            build_dataset(builder, BuildSettings(tmp_path / "built"))
    assert not (tmp_path / "built").exists()


def test_the_configuration_is_the_first_argument():
    assert builder_class("fivl_instruct")("augmented", data_dir="x").config.name == "augmented"
    with pytest.raises(ValueError, match="BuilderConfig 'zork' not found"):
        builder_class("fivl_scenes")("zork")


def test_changed_source_files_are_not_taken_from_the_cache(tmp_path):
    from builder_sources import gqa

    (tmp_path / "sources").mkdir()
    options = gqa(tmp_path / "sources")
    first = builder_class("fivl_gqa")(cache_dir=str(tmp_path / "cache"), **options)
    first.download_and_prepare()
    file = tmp_path / "sources" / "val_balanced_questions.json"
    file.write_text(file.read_text().replace("Is it sunny?", "Is it cold?"))
    second = builder_class("fivl_gqa")(cache_dir=str(tmp_path / "cache"), **options)
    second.download_and_prepare()
    assert "Is it cold?" in second.as_dataset(split="validation")["question"]
    shutil.rmtree(tmp_path / "cache")
