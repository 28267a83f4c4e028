"""Pushing datasets, models and metrics to the Hub: what would go is listed first, and a push can be repeated."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open

from fivl_hf.evaluation.metrics import metric_folders
from fivl_hf.hub.eval_results import eval_results_file
from fivl_hf.hub.measured_cards import MeasuredResults, measured_card, mismatches
from fivl_hf.storage import parquet_rows
from fivl_hf.storage.cards import INCOMPLETE, as_list, config_rows, read_card
from fivl_hf.storage.eval_files import EVAL_FILE
from fivl_hf.training.cards import on_the_hub

__all__ = ["PushError", "Upload", "dataset_upload", "metric_upload", "model_upload", "push", "require_id"]

_MODEL_FILES = (
    *("*.safetensors", "*.safetensors.index.json", "*config.json", "*.jinja", "*.model", "merges.txt"),
    *("tokenizer.json", "vocab.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json"),
)
# Beside new shards, an old model.safetensors would be loaded in their place.
_OLD_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "head_map.png")


class PushError(OSError):
    """A push that failed; its message is one sentence."""


@dataclass(frozen=True)
class Upload:
    """The files that go to a repository.

    Attributes:
        repo_type: "dataset", "model" or "space".
        files: (path in the repository, file or bytes).
        replaces: patterns of files that are deleted from the repository when they are not in this upload.
        warning: what one should know before pushing it.
        url: its page, below the Hub's address.
    """

    repo_id: str
    repo_type: str
    files: tuple[tuple[str, Path | bytes], ...]
    replaces: tuple[str, ...] = ()
    warning: str | None = None

    @property
    def url(self) -> str:
        prefix = {"dataset": "datasets/", "space": "spaces/"}.get(self.repo_type, "")
        return f"{prefix}{self.repo_id}"

    @property
    def card(self) -> str:
        """The text of its README.md."""
        card = dict(self.files)["README.md"]
        return (card if isinstance(card, bytes) else card.read_bytes()).decode()

    def sizes(self) -> list[tuple[str, int]]:
        """Return path and bytes of every file."""
        return [(name, len(file) if isinstance(file, bytes) else file.stat().st_size) for name, file in self.files]


def dataset_upload(folder: Path, repo_id: str) -> Upload:
    """Collect the upload of a dataset folder: its Parquet files, card and pictures.

    Raises:
        ValueError: no dataset folder, one with files that are missing or only half written, or one whose card or
            links point outside of it.
    """
    require_id(repo_id)
    card = folder / "README.md"
    if not card.is_file():
        raise ValueError(f"{folder} holds no README.md: push a folder that fivl build or fivl augment wrote")
    shards = _shards(folder, card)
    pictures = sorted(path for path in (folder / "pictures").glob("*") if path.is_file())
    benchmark = [folder / EVAL_FILE] if (folder / EVAL_FILE).is_file() else []
    paths = _inside(folder, (card, *benchmark, *shards, *pictures))
    files = tuple((path.relative_to(folder).as_posix(), path) for path in paths)
    warning = None
    if INCOMPLETE in card.read_text(encoding="utf-8"):
        warning = f"{folder} is not complete, as its card says: run the command that made it again, then push it"
    return Upload(repo_id, "dataset", files, replaces=("data/*", "pictures/*", EVAL_FILE), warning=warning)


def metric_upload(name: str, repo_id: str, requirement: str) -> Upload:
    """Collect the upload of an ``evaluate`` module to a Space, which must have the metric's name: it is loaded by it.

    Args:
        repo_id: such as ``"me/visual_reliance_score"``, or ``"me"``.
        requirement: how pip finds this package on the Space.

    Raises:
        ValueError: no such metric, or another name.
    """
    folders = metric_folders()
    if name not in folders:
        raise ValueError(f"no metric named {name!r}; there are {', '.join(folders)}")
    repo_id = repo_id if "/" in repo_id else f"{repo_id}/{name}"
    require_id(repo_id)
    if repo_id.split("/")[1] != name:
        raise ValueError(
            f"evaluate.load looks for a module by the Space's name: push it to {repo_id.split('/')[0]}/{name}"
        )
    folder = folders[name]
    card = (folder / "README.md").read_text(encoding="utf-8").replace(f'"metrics/{name}"', f'"{repo_id}"')
    needed = (folder / "requirements.txt").read_text(encoding="utf-8").replace("fivl-hf", requirement)
    files: list[tuple[str, Path | bytes]] = [("README.md", card.encode()), ("requirements.txt", needed.encode())]
    files += [(path.name, path) for path in (folder / f"{name}.py", folder / "app.py")]
    return Upload(repo_id, "space", tuple(files))


def model_upload(
    folder: Path,
    repo_id: str,
    measured: MeasuredResults = MeasuredResults(),  # noqa: B008 (frozen)
    *,
    force: bool = False,
    benchmark: str | None = None,
) -> Upload:
    """Collect the upload of a model folder, its card completed by what was measured.

    Args:
        force: push results that may be another model's; the card says so.
        benchmark: its id on the Hub, if the rows of the evaluation were read from a folder.

    Raises:
        ValueError: no model folder, one with links that lead out of it, results that were measured with other weights
            or another version, or an adapter whose base model is a folder of this machine.
    """
    require_id(repo_id)
    if benchmark and not measured.reliance:
        raise ValueError(f"the benchmark {benchmark} needs a score: give --evaluation, too")
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ValueError(f"{folder} holds no model: there is no config.json or adapter_config.json")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ValueError(f"{folder} holds no weights (*.safetensors)")
    for path in weights:
        _require_whole(path)
    for index in folder.glob("*.safetensors.index.json"):
        _require_shards(index)
    doubts = mismatches(folder, measured)
    if doubts and not force:
        raise ValueError(f"{folder}: {'; '.join(doubts)}; measure it again, or use --force, and the card will say so")
    _require_public_base(folder / "adapter_config.json")
    found = {path for pattern in _MODEL_FILES for path in folder.glob(pattern)}
    paths = _inside(folder, sorted(found))
    files: list[tuple[str, Path | bytes]] = [(path.name, path) for path in paths if path.name != "README.md"]
    card = folder / "README.md"
    _inside(folder, [card])
    text = measured_card(card.read_text(encoding="utf-8") if card.is_file() else None, repo_id, measured, doubts)
    files.append(("README.md", text.encode()))
    if measured.reliance and not doubts and (results := eval_results_file(measured.reliance, benchmark)):
        files.append(results)
    if measured.head_map:
        files.append(("head_map.png", measured.head_map))
    return Upload(repo_id, "model", tuple(files), replaces=_OLD_WEIGHTS)


def push(upload: Upload, *, private: bool | None = None, revision: str | None = None, token: str | None = None) -> str:
    """Create the repository if there is none, and commit the files; what the Hub has already is not sent again.

    Args:
        private: of a repository that is created.
        revision: a branch, created if there is none.

    Returns:
        The commit's address.

    Raises:
        PushError: no token, no right to write, no way to the Hub.
    """
    token = token or get_token()
    if token is None:
        raise PushError("no Hub token: run `hf auth login`, or set HF_TOKEN to a token that may write")
    api = HfApi(token=token)
    with _in_one_sentence(upload, api):
        api.create_repo(
            upload.repo_id,
            repo_type=upload.repo_type,
            private=private,
            exist_ok=True,
            space_sdk="gradio" if upload.repo_type == "space" else None,
        )
        if revision:
            api.create_branch(upload.repo_id, branch=revision, repo_type=upload.repo_type, exist_ok=True)
        added = [CommitOperationAdd(name, file) for name, file in upload.files]
        stale = [CommitOperationDelete(name) for name in _stale(api, upload, revision)]
        commit = api.create_commit(
            upload.repo_id,
            [*added, *stale],
            commit_message="Upload with fivl-hf",
            repo_type=upload.repo_type,
            revision=revision,
        )
    return str(commit.commit_url)


def _require_whole(weights: Path) -> None:
    try:
        with safe_open(weights, framework="np") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{weights} is not a complete safetensors file: save the model again ({error})") from error


def _require_shards(index: Path) -> None:
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is not a weights index: save the model again ({error!r})") from error
    if missing := sorted(name for name in named if not (index.parent / str(name)).is_file()):
        raise ValueError(f"{index} names {missing[0]}, which is not there: save the model again")


def _require_public_base(adapter: Path) -> None:
    if not adapter.is_file():
        return
    try:
        base = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{adapter} names no base model: save the adapter again ({error!r})") from error
    if not on_the_hub(str(base)):
        raise ValueError(
            f"{adapter}: the base model is the folder {base}, which nobody else has: push it, too, and write its name "
            "on the Hub there as base_model_name_or_path, or merge the adapter into it"
        )


def require_id(repo_id: str) -> None:
    """Check that an id is YOU/NAME, as the Hub allows it; raises ValueError if not."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is not a valid name on the Hub: {error}") from error
    if repo_id.count("/") != 1:
        raise ValueError(f"name the repository as YOU/NAME, got {repo_id!r}")


def _shards(folder: Path, card: Path) -> list[Path]:
    """Return the Parquet files that a card names; raises ValueError if one is missing or broken."""
    try:
        front, _ = read_card(card.read_text(encoding="utf-8"))
        configs, rows = front["configs"], config_rows(front)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{card} is not a dataset card of fivl-hf: build the dataset with fivl build or fivl augment"
        ) from error
    found: dict[Path, int] = {}
    for config in configs:
        expected = rows[config["config_name"]]
        for split in config["data_files"]:
            paths = [path for pattern in as_list(split["path"]) for path in _matches(folder, pattern)]
            found.update((path, parquet_rows(path)) for path in paths if path not in found)
            name, rows_there = split["split"], sum(found[path] for path in paths)
            if rows_there != expected[name]:
                raise ValueError(
                    f"{folder}: split {name} has {rows_there:,} rows, but its card says {expected[name]:,}: files are "
                    "missing or of another build; build it again"
                )
    return sorted(found)


def _matches(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a card's pattern; raises ValueError if it leads out of the folder."""
    if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
        raise ValueError(f"{folder / 'README.md'} names {pattern}, which is outside the dataset's folder")
    return sorted(folder.glob(pattern))


def _inside(folder: Path, paths: Sequence[Path]) -> Sequence[Path]:
    """``paths``, if none is a link to somewhere else: what is there was not meant to be published."""
    for path in paths:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{path} is a link to {path.resolve()}, outside the folder: copy the file, or remove it")
    return paths


def _stale(api: HfApi, upload: Upload, revision: str | None) -> list[str]:
    """Return files of an earlier push that this one replaces."""
    if not upload.replaces:
        return []
    there = api.list_repo_files(upload.repo_id, repo_type=upload.repo_type, revision=revision)
    ours = {name for name, _ in upload.files}
    return [name for name in there if name not in ours and any(fnmatch(name, each) for each in upload.replaces)]


@contextmanager
def _in_one_sentence(upload: Upload, api: HfApi) -> Iterator[None]:
    """Turn errors on the way to the Hub into a PushError of one sentence."""
    import httpx2

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise PushError("HF_HUB_OFFLINE is set: unset it to push") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise PushError(
            f"the Hub has no {upload.url} that your token may see ({error.response.status_code})"
        ) from error
    except HfHubHTTPError as error:
        raise PushError(_refused(error, upload)) from error
    except RuntimeError as error:
        # How an upload of a large file fails: huggingface_hub names the file, its cause says why.
        raise PushError(f"{error} ({error.__cause__}); push again, what has arrived is not sent twice") from error
    except (httpx2.TransportError, ConnectionError, TimeoutError) as error:
        raise PushError(f"the Hub at {api.endpoint} cannot be reached ({type(error).__name__}); try again") from error


def _refused(error: HfHubHTTPError, upload: Upload) -> str:
    status = error.response.status_code
    if status == 401:
        return "the Hub does not know your token: run `hf auth login` again, or fix HF_TOKEN (401)"
    if status == 403:
        return f"your token may not write to {upload.url}: use a name of yours, and a token with write access (403)"
    return f"the Hub refused {upload.url}: {error.server_message or error} ({status})"
