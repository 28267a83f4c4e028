"""Shared pieces: offline settings before any import, and tiny models of the real classes."""

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Two workers, and the processes that they start, share the cores.
os.environ["OMP_NUM_THREADS"] = "1"
# The tests' datasets do not fill the user's cache.
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="fivl-tests-")

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from datasets import Dataset
from example_rows import encoded
from hub_server import HubServer
from PIL import Image
from scene_runs import SCENES, photo_conversations, scenes
from scene_runs import rows as rows_of

from fivl_hf.augment.pipeline import RunSettings, run_augmentation
from fivl_hf.augment.scenes import scene_rows
from fivl_hf.demo.run import run_demo
from fivl_hf.demo.settings import DemoSettings
from fivl_hf.images import image_bytes
from fivl_hf.masks import encode_mask
from fivl_hf.schema import FEATURES
from fivl_hf.storage import write_dataset

hypothesis.settings.register_profile("default", deadline=None, max_examples=40)
hypothesis.settings.load_profile("default")

_ASPECTS = (
    *("geometry", "train step", "λ = 0 parity", "resume", "reliance"),
    *("head probe", "segmentation", "knock-out", "lens", "boxes"),
)


@pytest.fixture(scope="session")
def processor() -> Any:
    from fivl_hf.scenes.model import scene_processor

    return scene_processor()


@pytest.fixture
def model(processor: Any) -> Any:
    from fivl_hf.scenes.model import scene_model

    return scene_model(processor, seed=0, hidden_size=32, text_layers=2, vision_layers=1).eval()


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    from fivl_hf.augment.scenes import scene_rows

    return list(scene_rows("train", 24, seed=3))


@pytest.fixture(scope="session")
def dataset(rows: list[dict[str, Any]]) -> Dataset:

    return Dataset.from_list(rows, features=FEATURES)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Starts scripted servers; the back-off is shortened, a server's Retry-After is not."""
    from scripted_server import ScriptedServer, last_words

    monkeypatch.setattr("fivl_hf.llm.client.FIRST_WAIT", 0.01)
    monkeypatch.setattr("fivl_hf.llm.client.LONGEST_WAIT", 0.05)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.05)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    servers = []

    def start(answer: Any = last_words) -> ScriptedServer:
        servers.append(ScriptedServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def settings() -> Callable[..., Any]:
    """Settings for asking a scripted server; further ones as keywords."""
    from fivl_hf.llm.settings import ChatSettings

    def make(server: Any, **options: Any) -> ChatSettings:
        return ChatSettings(**{"model": "m", "base_url": server.url, "retries": 3, "timeout": 5.0, **options})

    return make


@pytest.fixture
def cache(tmp_path: Path) -> Any:
    """An empty answer cache."""
    from fivl_hf.llm.answers import AnswerCache

    return AnswerCache(tmp_path / "answers.sqlite")


@pytest.fixture
def extract(cache: Any, settings: Callable[..., Any]) -> Callable[..., Any]:
    """Extractions of turns by a server, and what the client spent."""
    from fivl_hf.augment.extractors.chat import ChatExtractor
    from fivl_hf.llm.client import ChatClient

    def run(server: Any, turns: Any, **options: Any) -> tuple[Any, Any]:
        with ChatExtractor(ChatClient(settings(server, **options), cache)) as extractor:
            return extractor.extract(turns), extractor.client.spent

    return run


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Any]:
    """Build by a builder's name; further arguments are its configuration, or the run's settings."""
    from fivl_hf.building.run import BuildSettings, build_dataset, builder_class

    def make(name: str, output: Path, *, settings: dict[str, Any] | None = None, **options: Any) -> Any:
        builder = builder_class(name)(cache_dir=str(tmp_path / "cache"), **options)
        return build_dataset(builder, BuildSettings(output, **(settings or {})))

    return make


@pytest.fixture
def config(tmp_path: Any) -> Callable[..., Any]:
    """A FiVLConfig for a few deterministic CPU steps; further fields as keywords."""
    from fivl_hf import FiVLConfig

    def make(**options: Any) -> FiVLConfig:
        defaults: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"),
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 4,
            "max_steps": 2,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "bf16": False,
            "use_cpu": True,
            "activation_checkpointing": False,
            "max_length": None,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }
        return FiVLConfig(**{**defaults, **options})

    return make


@pytest.fixture(scope="session")
def scene_run(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows of 70 scenes that one process augmented without interruption."""
    output = tmp_path_factory.mktemp("scene_run") / "fivl"
    result = run_augmentation(scenes(70), SCENES, RunSettings(output, shard_size=8, total=70))
    assert (result.tally.read, result.tally.kept) == (70, 70)
    return rows_of(output)


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Callable[..., Any]]:
    """A folder with one photograph, and a reader of a LLaVA file of 400 samples, a quarter without their image."""
    (tmp_path / "a.jpg").write_bytes(image_bytes(Image.new("RGB", (8, 6), "red"), "JPEG"))
    return tmp_path, partial(photo_conversations, tmp_path)


@pytest.fixture
def row() -> dict[str, Any]:
    """A row of one turn and one key expression, a red car of 3 × 2 pixels."""
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:3, 2:5] = True
    return {
        "id": "a1",
        "images": [encoded(Image.new("RGB", (8, 6), "red"), "JPEG")],
        "messages": [
            {"role": "user", "content": "What is it?"},
            {"role": "assistant", "content": "A red car, a red car."},
        ],
        "key_expressions": [
            {
                "turn": 0,
                "text": "red car",
                "start": 13,
                "end": 20,
                "keywords": ["car"],
                "boxes": [[2.0, 1.0, 5.0, 3.0]],
                "score": 0.5,
                "image": 0,
            }
        ],
        "masks": [{"bytes": encode_mask(mask), "path": None}],
        "source": "test",
    }


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A stand-in for the Hub."""
    with HubServer() as server:
        yield server


@pytest.fixture
def fivl(hub: HubServer, tmp_path: Path) -> Callable[..., Any]:
    """Run ``fivl`` as a user of the stand-in Hub; returns the finished process."""

    def run(*arguments: Any, token: str | None = None, **environment: str) -> Any:
        command = [sys.executable, "-m", "fivl_hf", *map(str, arguments)]
        env = {**os.environ, **hub.environment(tmp_path / "home", token), **environment}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def scenes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of 12 rows to train on, 12 to validate and 12 to test."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    splits = {split: scene_rows(split, 12) for split in ("train", "validation", "test")}
    write_dataset(folder, splits, title="S", description="S")
    return folder


@pytest.fixture(scope="session")
def small_settings() -> DemoSettings:
    """A demo of seconds."""
    return DemoSettings(seed=1, steps=3, train_rows=40, validation_rows=6, test_rows=8, batch_size=8)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, small_settings: DemoSettings) -> Path:
    """That demo, in a folder called demo."""
    output = tmp_path_factory.mktemp("work") / "demo"
    run_demo(output, small_settings)
    return output


# Folders, and modules, of tests that train, load several models or start processes.
_SLOW = (
    *("building", "dataset_builders", "demo", "end_to_end", "hostile", "jobs", "model_families"),
    *("augment/test_pipeline", "augment/test_prefetch", "cli", "evaluation/test_spaces", "training/test_processes"),
    *("training/test_runner", "training/test_ways_to_train", "augment/grounders/test_segmenters"),
    *("annotation/test_page", "docs", "explore/test_page", "explore/test_start", "show/test_row_browser"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their place, for ``make test-fast``."""
    tests = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(tests).with_suffix("").as_posix()
        if any(place == slow or place.startswith(f"{slow}/") for slow in _SLOW):
            item.add_marker("slow")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Families × what was tested of them, from the tests that recorded a place in this table."""
    table: dict[str, dict[str, str]] = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for key, place in getattr(report, "user_properties", []):
                if key == "table":
                    family, aspect = place
                    table.setdefault(family, {})[aspect] = outcome
    if not table:
        return
    aspects = [aspect for aspect in _ASPECTS if any(aspect in line for line in table.values())]
    terminalreporter.section("families")
    terminalreporter.write_line("Mllama has no visual tokens in its sequence to train.")
    terminalreporter.write_line(f"{'':24}" + "".join(f"{aspect:>15}" for aspect in aspects))
    for family, line in sorted(table.items()):
        cells = "".join(f"{line.get(aspect, '–'):>15}" for aspect in aspects)
        terminalreporter.write_line(f"{family:24}{cells}")


@pytest.fixture(scope="module")
def children() -> Iterator[Callable[..., list[int]]]:
    """Runs a command in children and returns their exit codes."""
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("run_in_children.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:

        def run(command: list[Any], processes: int = 1, kill_after: int | None = None) -> list[int]:
            job = {"command": list(map(str, command)), "processes": processes, "kill_after": kill_after}
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            while not (line := process.stdout.readline()).startswith("["):
                assert line, "the script has ended"
            codes: list[int] = json.loads(line)
            return codes

        yield run
        process.stdin.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], processor: Any) -> Path:
    """A folder with a model, and a dataset of eight rows, ``rows``."""
    folder = tmp_path_factory.mktemp("places")
    from fivl_hf.scenes.model import scene_model

    write_dataset(folder / "rows", {"test": rows[:8]}, title="S", description="D")
    model = scene_model(processor, seed=0, hidden_size=32, text_layers=2, vision_layers=1)
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    return folder
