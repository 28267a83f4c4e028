"""Ratings: annotations brought together with the dataset that they are about."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fivl_hf.annotation.items import Item, make_item, numbers_by_id, row_of_key
from fivl_hf.annotation.records import Annotation, read_annotations
from fivl_hf.annotation.study import gold_annotations, read_items, strategy_of
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

    def is_disputed(self, question: str) -> bool:
        """Return whether one annotator answered yes and another no."""
        return {"yes", "no"} <= set(self.answers(question).values())


@dataclass(frozen=True)
class Ratings:
    """All annotations of a dataset.

    Attributes:
        rated: the annotated expressions.
        changed: keys of those that are gone from the dataset, or look different now; their annotations do not count.
        gold: right answers of gold items, by key.
        weighted: whether a draw was stratified: then :attr:`Item.weight` says how many expressions of the dataset each
            of its items stands for, and is 0 for others.
        strategies: how the items of the studies were drawn.
        ignored: annotations of an expression as it looked before, beside ones of how it looks now.
    """

    rated: Sequence[Rated]
    changed: Sequence[str]
    gold: Mapping[str, Annotation]
    weighted: bool
    strategies: Sequence[str] = ()
    ignored: int = 0

    @property
    def annotators(self) -> list[str]:
        """List everyone whose annotations count, by name."""
        return sorted({name for each in self.rated for name in each.annotations})


def collect_ratings(
    rows: Any, paths: Sequence[Path], progress: Callable[[Iterable[Any]], Iterable[Any]] = iter
) -> Ratings:
    """Bring annotations and their dataset together.

    Args:
        rows: the dataset, images left encoded, each row with an id of its own.
        paths: folders of studies, or files of annotations; an expression that is in several has the annotators of all.
        progress: wraps the annotated expressions while they are read.

    Raises:
        ValueError: a damaged file, or no annotation of an expression of this dataset.
        FileNotFoundError: a path holds no annotations.
    """
    folders = [path for path in paths if path.is_dir()]
    gold = {key: each for folder in folders for key, each in gold_annotations(folder).items()}
    strategies = {folder: strategy_of(folder) for folder in folders}
    weights = {
        item.key: item.weight
        for folder in folders
        for item in (read_items(folder) if strategies[folder] == "stratified" else ())
        if not item.gold
    }
    numbers = numbers_by_id(rows)
    by_key = read_annotations(paths)
    rated, changed, ignored = [], [], 0
    for key in progress(sorted(by_key)):
        number, place = row_of_key(rows, numbers, key) or (None, 0)
        row = {} if number is None else rows[number]
        item = make_item(row, place) if row else None
        current = {name: each for name, each in by_key[key].items() if item and each.digest == item.digest}
        if number is None or item is None or not current:
            changed.append(key)
            continue
        ignored += len(by_key[key]) - len(current)
        weight = weights.get(key, 0.0) if weights else 1.0
        rated.append(
            Rated(
                replace(item, weight=weight, gold=key in gold),
                number,
                hashlib.sha256(encoded_bytes(row["images"][row["key_expressions"][place]["image"]])).hexdigest(),
                sum(each["turn"] == item.turn for each in row["key_expressions"]),
                current,
            )
        )
    if not rated:
        gone = f"; {len(changed)} are of expressions that are not in it or look different now" if changed else ""
        raise ValueError(f"no annotation of an expression of this split{gone}; is it the one that was annotated?")
    return Ratings(rated, changed, gold, bool(weights), sorted({each for each in strategies.values() if each}), ignored)
