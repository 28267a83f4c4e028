"""Dataset cards: what a dataset's README.md says, and the front matter by which ``datasets`` finds its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from datasets import DatasetInfo, Features
from datasets.info import DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from huggingface_hub import DatasetCardData

__all__ = [
    "DEFAULT_CONFIG",
    "INCOMPLETE",
    "TAG",
    "CardContent",
    "WrittenFiles",
    "as_list",
    "config_rows",
    "dataset_card",
    "read_card",
]

# By which a folder is known to be ours.
TAG = "fivl"
DEFAULT_CONFIG = "default"
# Begins the sentence by which the card of a dataset tells that its run was stopped.
INCOMPLETE = "Not complete: "
_COLUMNS = """\
Each row is a conversation (`messages`) or a question (`question`, `answers`) about `images`, with its evidence:
`key_expressions` (turn, text, span, nouns, boxes in source pixels) and `masks`, one black-and-white image per key
expression. Load it with `datasets.load_dataset`; train on it with `fivl_hf.FiVLTrainer` or any TRL vision script.
"""


@dataclass(frozen=True)
class CardContent:
    """The text of a dataset's card.

    Attributes:
        front: further front matter, such as ``license`` and ``task_categories``.
        body: Markdown on where the data comes from and what its columns hold; a general text if empty.
        contents: Markdown on what was counted in the rows.
        pictures: (path in the folder, caption) of pictures to show.
    """

    title: str
    description: str = ""
    front: Mapping[str, Any] = field(default_factory=dict)
    body: str = ""
    contents: str = ""
    pictures: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class WrittenFiles:
    """The Parquet files of one split, or of one part of it: how many rows, their size in memory and on disk."""

    pattern: str
    rows: int
    num_bytes: int
    file_bytes: int


def dataset_card(
    about: CardContent, configs: Mapping[str, Mapping[str, Sequence[WrittenFiles]]], features: Features
) -> str:
    """Return the card of a dataset.

    Args:
        configs: of each configuration, the files of each split; the first is the default.
    """
    infos = DatasetInfosDict({name: _info(name, splits, features) for name, splits in configs.items()})
    infos.to_dataset_card_data(card_data := DatasetCardData())
    tags = [TAG, *(tag for tag in about.front.get("tags", ()) if tag != TAG)]
    front = {
        "pretty_name": about.title,
        **{key: value for key, value in about.front.items() if key not in ("pretty_name", "tags")},
        "tags": tags,
        "configs": [_config(name, splits, number == 0) for number, (name, splits) in enumerate(configs.items())],
        "dataset_info": card_data.to_dict()["dataset_info"],
    }
    sections = [
        f"# {about.title}",
        about.description,
        _sizes(configs),
        about.body.strip() or _COLUMNS.strip(),
        about.contents,
    ]
    if about.pictures:
        shown = "\n\n".join(f"![{caption}]({path})" for path, caption in about.pictures)
        sections.append(f"## A look at the rows\n\n{shown}")
    text = "\n\n".join(section for section in sections if section)
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n{text}\n"


def read_card(text: str) -> tuple[dict[str, Any], str]:
    """Return front matter and body of a card, the body without its title.

    Raises:
        ValueError: it has no front matter.
    """
    _, front, body = text.split("---\n", 2)
    title, _, rest = body.strip().partition("\n")
    try:
        loaded = yaml.safe_load(front)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"front matter that is not valid YAML: {error}") from error
    return loaded, rest.strip() if title.startswith("# ") else body.strip()


def config_rows(front: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return how many rows each split of each configuration has, by a card's front matter.

    Raises:
        KeyError, TypeError, AttributeError: the front matter is none of ours.
    """
    # One configuration alone has no name there.
    return {
        info.get("config_name", DEFAULT_CONFIG): {split["name"]: split["num_examples"] for split in info["splits"]}
        for info in as_list(front["dataset_info"])
    }


def as_list(value: Any) -> list[Any]:
    """Return what a card writes as a list, or as it is when there is one alone."""
    return value if isinstance(value, list) else [value]


def _info(name: str, splits: Mapping[str, Sequence[WrittenFiles]], features: Features) -> DatasetInfo:
    written = SplitDict()
    for split, files in splits.items():
        num_bytes = sum(each.num_bytes for each in files)
        written.add(SplitInfo(split, num_bytes, sum(each.rows for each in files)))
    everything = [each for files in splits.values() for each in files]
    return DatasetInfo(
        features=features,
        splits=written,
        config_name=name,
        download_size=sum(each.file_bytes for each in everything),
        dataset_size=sum(each.num_bytes for each in everything),
    )


def _config(name: str, splits: Mapping[str, Sequence[WrittenFiles]], default: bool) -> dict[str, Any]:
    files = [{"split": split, "path": _patterns(written)} for split, written in splits.items()]
    return {"config_name": name, **({"default": True} if default else {}), "data_files": files}


def _patterns(written: Sequence[WrittenFiles]) -> str | list[str]:
    return written[0].pattern if len(written) == 1 else [each.pattern for each in written]


def _sizes(configs: Mapping[str, Mapping[str, Sequence[WrittenFiles]]]) -> str:
    several = len(configs) > 1
    lines = ["| configuration | split | rows |" if several else "| split | rows |", "|---" * (2 + several) + "|"]
    for name, splits in configs.items():
        for split, files in splits.items():
            rows = f"| {split} | {sum(each.rows for each in files):,} |"
            lines.append(f"| {name} {rows}" if several else rows)
    return "\n".join(lines)
