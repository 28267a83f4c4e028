"""A study: the items, the annotators with their files, and who annotates what next."""

import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fivl_hf.annotation.items import Item, make_item, matching_rows, numbers_by_id, row_of_key, with_gold
from fivl_hf.annotation.records import Annotation, AnnotationFile, read_annotations
from fivl_hf.files.atomic import write_json
from fivl_hf.files.json_stream import parse_json
from fivl_hf.files.results import read_settings, result_folder

__all__ = [
    "Progress",
    "Study",
    "gold_annotations",
    "gold_items",
    "open_study",
    "read_items",
    "require_annotator_name",
    "strategy_of",
]

_ITEMS, _LINKS, _GOLD = "items.json", "links.json", "gold.jsonl"
_NAME = re.compile(r"\w[\w.@ -]{0,63}")


@dataclass(frozen=True)
class Progress:
    """The number of items that an annotator has finished, and of all items for them."""

    done: int
    total: int


class Study:
    """Annotators at work on the same items; safe to call from several threads.

    Args:
        folder: where ``annotators/NAME.jsonl`` are.
        items: in the order in which they are annotated.
        rows: row numbers by the items' keys.
        changed: keys of items that are gone from the dataset, or look different now; nobody is asked about them.
        annotators: who annotates; those who have a file already stay.
        per_item: how many annotators each item gets; all if None. Gold items get all.

    Raises:
        ValueError: a name that cannot be a file's, or a damaged file.
    """

    def __init__(
        self,
        folder: Path,
        items: Sequence[Item],
        rows: Mapping[str, int],
        changed: Sequence[str],
        annotators: Sequence[str],
        per_item: int | None = None,
    ) -> None:
        self.folder, self.rows, self.changed = folder, rows, list(changed)
        self.items = {item.key: item for item in items if item.key in rows}
        self._per_item = per_item
        self._lock = threading.RLock()
        self._shown: dict[str, str] = {}
        (folder / "annotators").mkdir(parents=True, exist_ok=True)
        names = dict.fromkeys([*(path.stem for path in (folder / "annotators").glob("*.jsonl")), *annotators])
        for name in names:
            require_annotator_name(name)
        if len({name.casefold() for name in names}) < len(names):
            raise ValueError(f"annotators' names differ in more than upper and lower case, got {', '.join(names)}")
        self._files = {name: AnnotationFile(folder / "annotators" / f"{name}.jsonl") for name in names}
        self.links = _links(folder / _LINKS, names)

    @property
    def annotators(self) -> list[str]:
        """List everyone who annotates, or has annotated, in this study."""
        return list(self._files)

    def annotator_of(self, link: str) -> str | None:
        """Return whose link this is; None if it is unknown."""
        given = link.encode()
        return next((name for name, own in self.links.items() if secrets.compare_digest(own.encode(), given)), None)

    def annotation(self, name: str, key: str) -> Annotation:
        """Return what an annotator recorded about an item so far."""
        with self._lock:
            return self._own(name, key) or Annotation(self.items[key].digest)

    def _own(self, name: str, key: str) -> Annotation | None:
        """Return an annotator's annotation of an item as it looks now; None if there is none."""
        found = self._files[name].annotations.get(key)
        return found if found and found.digest == self.items[key].digest else None

    def next_item(self, name: str) -> Item | None:
        """Return the item that an annotator is to see: one begun and not finished, or the next one; None at the end."""
        with self._lock:
            own = {key: self._own(name, key) for key in self.items}
            begun = [key for key, each in own.items() if each and not each.complete]
            free = [key for key, each in own.items() if not each and self._is_wanted(key)]
            # What others look at, who may never answer, comes last.
            order = [*begun, *(key for key in free if not self._is_held(name, key)), *free]
            if not order:
                self._shown.pop(name, None)
                return None
            return self._show(name, order[0])

    def _annotators_of(self, key: str) -> int:
        return sum(self._own(name, key) is not None for name in self._files)

    def _is_wanted(self, key: str) -> bool:
        return self.items[key].gold or self._per_item is None or self._annotators_of(key) < self._per_item

    def _is_held(self, name: str, key: str) -> bool:
        """Return whether an item has enough annotators, if those who look at it now annotate it."""
        if self.items[key].gold or self._per_item is None:
            return False
        looking = [other for other, shown in self._shown.items() if shown == key and other != name]
        begin = sum(self._own(other, key) is None for other in looking)
        return self._annotators_of(key) + begin >= self._per_item

    def _show(self, name: str, key: str) -> Item:
        self._shown[name] = key
        return self.items[key]

    def record(self, name: str, key: str, field: str, value: Any) -> None:
        """Write down an answer, a comment or a fix of an annotator.

        Raises:
            ValueError: no such item, or a value that the field cannot have.
            OSError: it could not be written; nothing has changed.
        """
        with self._lock:
            if key not in self.items:
                raise ValueError(f"there is no item {key!r} in this study")
            self._files[name].add(key, self.items[key].digest, field, value)

    def undo(self, name: str) -> Item | None:
        """Take an annotator's last entry back and return its item; raises OSError as :meth:`record`.

        Returns:
            None if there is none, or if it is about an item that is not asked about any more: that is kept.
        """
        with self._lock:
            last = self._files[name].last
            if last is None or last.item not in self.items:
                return None
            self._files[name].undo()
            return self._show(name, last.item)

    def progress(self, name: str) -> Progress:
        """Return how far an annotator is."""
        with self._lock:
            own = {key: self._own(name, key) for key in self.items}
            done = sum(bool(each and each.complete) for each in own.values())
            left = sum(not each.complete if each else self._is_wanted(key) for key, each in own.items())
            return Progress(done, done + left)


def _links(path: Path, names: Mapping[str, Any]) -> dict[str, str]:
    """Return every annotator's link, those of before as they were."""
    known = parse_json(path.read_bytes()) if path.exists() else {}
    if not isinstance(known, dict) or not all(isinstance(link, str) for link in known.values()):
        raise ValueError(f"{path} is damaged: delete it, and every annotator gets a new link")
    links = {name: known.get(name) or secrets.token_urlsafe(12) for name in names}
    if links != known:
        write_json(path, links)
    return links


def require_annotator_name(name: str) -> None:
    """Check that a name can be a file's; raises ValueError if not."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"an annotator's name has letters, digits, '.', '-', '@' and spaces, at most 64, got {name!r}")


@contextmanager
def open_study(
    folder: Path,
    rows: Any,
    run: Mapping[str, Any],
    *,
    draw: Callable[[], Sequence[Item]],
    annotators: Sequence[str],
    per_item: int | None = None,
    gold: Path | None = None,
    restart: bool = False,
) -> Iterator[Study]:
    """Begin a study in a folder, or go on with the one that is there; no other process can, meanwhile.

    Args:
        folder: of the study.
        rows: the dataset, images left encoded.
        run: what decides the items, so that another study is not mixed with this one.
        draw: draws the items of a new study.
        annotators, per_item: see :class:`Study`.
        gold: the gold items' annotations, of which the study keeps a copy.
        restart: draw the items again; annotations are kept, and count where they are of the new items.

    Yields:
        the study.

    Raises:
        FolderInUseError: another process serves the study.
        ValueError: the folder holds another study, or a damaged file.
    """
    with result_folder(folder, run, kind="annotation", files=(_ITEMS, _GOLD), restart=restart):
        items_file = folder / _ITEMS
        if not items_file.exists():
            drawn = draw()
            if gold:
                (folder / _GOLD).write_bytes(gold.read_bytes())
            write_json(items_file, [item.to_dict() for item in drawn])
        items = read_items(folder)
        found, changed = matching_rows(rows, items)
        yield Study(folder, items, found, changed, annotators, per_item)


def read_items(folder: Path) -> list[Item]:
    """Read the items of a study; none if the folder holds no study. Raises ValueError if they are damaged."""
    path = folder / _ITEMS
    if not path.exists():
        return []
    try:
        return [Item.from_dict(raw) for raw in parse_json(path.read_bytes())]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}): use --restart to draw the items again") from error


def gold_items(rows: Any, items: Sequence[Item], file: Path) -> list[Item]:
    """Return the items of a study with those that an expert has finished mixed in.

    Raises:
        ValueError: the file has none of this dataset, or the dataset has changed since.
        OSError: it cannot be read.
    """
    file.stat()
    expert = AnnotationFile(file).annotations
    numbers = numbers_by_id(rows)
    gold = []
    for key in (key for key, each in expert.items() if each.complete):
        found = row_of_key(rows, numbers, key)
        if found is None:
            raise ValueError(f"{file}: the dataset has no key expression {key}")
        gold.append(make_item(rows[found[0]], found[1]))
        if gold[-1].digest != expert[key].digest:
            raise ValueError(f"{file}: {key} looks different in this dataset now")
    if not gold:
        raise ValueError(f"{file} has no finished annotation")
    return with_gold(items, gold)


def strategy_of(folder: Path) -> str | None:
    """Return how the items of a study were drawn; None if the folder holds no study, or one that does not say."""
    note = folder / "annotation.run.json"
    return read_settings(note).get("strategy") if note.exists() else None


def gold_annotations(folder: Path) -> dict[str, Annotation]:
    """Return the right answers of a study's gold items, by key."""
    path = folder / _GOLD
    if not path.exists():
        return {}
    return {key: each[path.stem] for key, each in read_annotations([path]).items()}
