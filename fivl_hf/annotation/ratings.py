"""Ratings: annotations brought together with the dataset that they are about."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fivl_hf.annotation.items import Item, make_item
from fivl_hf.annotation.records import QUESTIONS, Annotation, read_annotations
from fivl_hf.annotation.study import gold_annotations, read_items
from fivl_hf.images import encoded_bytes

__all__ = ["Rated", "Ratings", "collect_ratings"]


@dataclass(frozen=True)
class Rated:
    """A key expression that somebody has annotated.

    Attributes:
        row: its row's number in the dataset.
        image: digest of its image; expressions of one image are not independent.
        expressions_of_turn: how many key expressions the dataset has in its turn.
        annotations: by annotator.
    """

    item: Item
    row: int
    image: str
    expressions_of_turn: int
    annotations: Mapping[str, Annotation]

    def answers(self, question: str) -> dict[str, str]:
        """Return what each annotator answered to a question."""
        return {name: each.answers[question] for name, each in self.annotations.items() if question in each.answers}

    def verdict(self, question: str) -> bool | None:
        """Return what most annotators answered; None where yes and no are equally many, "unsure" left out."""
        counts = Counter(self.answers(question).values())
        return None if counts["yes"] == counts["no"] else counts["yes"] > counts["no"]

    @property
    def is_disputed(self) -> bool:
        """Whether one annotator answered yes to a question and another no."""
        return any({"yes", "no"} <= set(self.answers(question).values()) for question in QUESTIONS)


@dataclass(frozen=True)
class Ratings:
    """All annotations of a dataset.

    Attributes:
        rated: the annotated expressions.
        changed: keys of those that are gone from the dataset, or look different now; their annotations do not count.
        gold: right answers of gold items, by key.
        weighted: whether the draw was stratified: then :attr:`Item.weight` says how common each item's like is.
    """

    rated: Sequence[Rated]
    changed: Sequence[str]
    gold: Mapping[str, Annotation]
    weighted: bool

    @property
    def annotators(self) -> list[str]:
        """Everyone whose annotations count, by name."""
        return sorted({name for each in self.rated for name in each.annotations})


def collect_ratings(
    rows: Any, paths: Sequence[Path], progress: Callable[[Iterable[Any]], Iterable[Any]] = iter
) -> Ratings:
    """Bring annotations and their dataset together.

    Args:
        rows: the dataset, images left encoded.
        paths: folders of studies, or files of annotations.
        progress: wraps the annotated expressions while they are read.

    Raises:
        ValueError: a damaged file, or no annotation of an expression of this dataset.
        FileNotFoundError: a path holds no annotations.
    """
    folders = [path for path in paths if path.is_dir()]
    gold = {key: each for folder in folders for key, each in gold_annotations(folder).items()}
    weights = {item.key: item.weight for folder in folders for item in read_items(folder)}
    numbers = {id: number for number, id in enumerate(rows["id"])}
    by_key = read_annotations(paths)
    rated, changed = [], []
    for key in progress(sorted(by_key)):
        id, _, place = key.rpartition("/")
        row = rows[numbers[id]] if id in numbers else {"key_expressions": ()}
        if not place.isdecimal() or int(place) >= len(row["key_expressions"]):
            changed.append(key)
            continue
        item = make_item(row, int(place))
        current = {name: each for name, each in by_key[key].items() if each.digest == item.digest}
        if not current:
            changed.append(key)
            continue
        image = hashlib.sha256(encoded_bytes(row["images"][row["key_expressions"][int(place)]["image"]])).hexdigest()
        weighted = Item(**{**item.to_dict(), "weight": weights.get(key, 1.0), "gold": key in gold})
        in_turn = sum(each["turn"] == item.turn for each in row["key_expressions"])
        rated.append(Rated(weighted, numbers[id], image, in_turn, current))
    if not rated:
        gone = f"; {len(changed)} are of expressions that are gone or look different now" if changed else ""
        raise ValueError(f"no annotation of an expression of this dataset{gone}")
    return Ratings(rated, changed, gold, len(set(weights.values())) > 1)
