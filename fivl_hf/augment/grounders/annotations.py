"""Evidence from annotations instead of a detector: COCO instances or GQA scene graphs, matched to expressions by noun.

The annotation files are read once, piece by piece, into an SQLite file that every worker opens.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fivl_hf.augment.grounders.coco_names import SYNONYMS
from fivl_hf.augment.grounding import Grounding, GroundingRequest
from fivl_hf.augment.inputs.conversations import ImageSource
from fivl_hf.files.disk_table import create_index, open_index
from fivl_hf.files.json_stream import json_items, json_members, leading_events
from fivl_hf.images import StoredSize, stored_size
from fivl_hf.keywords import head_noun, lemmas, nouns
from fivl_hf.masks import BoolArray, mask_boxes, rasterize_boxes, union

__all__ = [
    "AnnotatedObject",
    "AnnotationsGrounder",
    "PlausibleGrounder",
    "index_annotations",
    "matching_objects",
]

# Up to this many kinds of objects are taken to exclude each other, as COCO's 80 categories do. In GQA's open vocabulary
# one thing has several names: what is a "tennis court" in one image is a "court" in another.
_MOST_CATEGORIES = 200
_COCO_FILE = re.compile(r"(?:COCO_\w+?_)?(\d{12})")


@dataclass(frozen=True)
class AnnotatedObject:
    """One object of an image.

    Attributes:
        shape: a COCO segmentation (polygons or RLE) or a box [x, y, width, height], in pixels of ``size``.
        size: (width, height) of the image that was annotated, as it is stored.
        orientation: EXIF's, by which the stored image is turned to be shown.
    """

    name: str
    attributes: tuple[str, ...]
    shape: Any
    size: tuple[int, int]
    orientation: int = 1

    @property
    def shown_size(self) -> tuple[int, int]:
        return StoredSize(self.size, self.orientation).shown

    def mask(self, size: tuple[int, int]) -> BoolArray:
        """(H, W) bool at the size of the image as it is shown."""
        image = StoredSize(size[::-1] if self.orientation >= 5 else size, self.orientation)
        return image.upright_mask(self._stored_mask(image.stored))

    def _stored_mask(self, size: tuple[int, int]) -> BoolArray:
        if isinstance(self.shape, list) and self.shape and not isinstance(self.shape[0], list):
            x, y, width, height = self.shape
            scale = np.divide(size, self.size)
            corners = np.array([[x, y], [x + width, y + height]]) * scale
            return rasterize_boxes(corners.reshape(1, 4), size)
        mask = _decode(self.shape, self.size)
        if size == self.size:
            return mask
        rows = (np.arange(size[1]) + 0.5) * self.size[1] // size[1]
        columns = (np.arange(size[0]) + 0.5) * self.size[0] // size[0]
        return mask[rows.astype(int)][:, columns.astype(int)]


class AnnotationsGrounder:
    """Grounds expressions in what people annotated; the score is None, since nothing was detected.

    Args:
        index: the file that :func:`index_annotations` made.
    """

    def __init__(self, index: Path) -> None:
        if not index.is_file():
            raise FileNotFoundError(f"there is no annotation index {index}")
        self._db = open_index(index)
        names = self._db.execute("SELECT DISTINCT name FROM objects ORDER BY name").fetchall()
        # Without shapes: matching_objects chooses among all names that are annotated anywhere.
        self._kinds = [AnnotatedObject(name, (), None, (1, 1)) for (name,) in names]
        self._kinds_named = cache(self._find_kinds)

    def ground(self, requests: Sequence[GroundingRequest]) -> list[list[Grounding | None]]:
        return [self._sample(request) for request in requests]

    def _sample(self, request: GroundingRequest) -> list[Grounding | None]:
        objects = [
            [thing for thing in self._objects(source) if _alike(thing.shown_size, image.size)]
            for source, image in zip(request.sources, request.images, strict=True)
        ]
        return [self._expression(text, request, objects) for text in request.expressions]

    def _expression(
        self, text: str, request: GroundingRequest, objects: Sequence[Sequence[AnnotatedObject]]
    ) -> Grounding | None:
        for index, image in enumerate(request.images):
            masks = [thing.mask(image.size) for thing in self._matching(text, objects[index])]
            masks = [mask for mask in masks if mask.any()]
            if masks:
                boxes = tuple((a, b, c, d) for a, b, c, d in mask_boxes(np.stack(masks)).tolist())
                return Grounding(union(masks), boxes, None, index)
        return None

    def _matching(self, text: str, objects: Sequence[AnnotatedObject]) -> list[AnnotatedObject]:
        if len(self._kinds) > _MOST_CATEGORIES:
            return matching_objects(text, objects)
        # "teddy bear" names that category also where the image only has a bear.
        return matching_objects(text, [thing for thing in objects if thing.name in self._kinds_named(text)])

    def _find_kinds(self, text: str) -> frozenset[str]:
        """Return the kinds of objects, of all that are annotated anywhere, that an expression names."""
        return frozenset(kind.name for kind in matching_objects(text, self._kinds))

    def _objects(self, source: ImageSource) -> list[AnnotatedObject]:
        found = self._db.execute(
            "SELECT name, attributes, shape, width, height FROM objects WHERE image = ? ORDER BY rowid",
            (_image_key(source.name),),
        ).fetchall()
        turned = stored_size(source.read()).orientation if found else 1
        return [
            AnnotatedObject(label, tuple(json.loads(attributes)), json.loads(shape), (width, height), turned)
            for label, attributes, shape, width, height in found
        ]


class PlausibleGrounder(AnnotationsGrounder):
    """Grounds an absent object in objects that are there: those of the kind most often annotated in the same images.

    For a missing knife, these are the forks. Of kinds that are equally frequent, the first in the alphabet is taken.
    """

    def __init__(self, index: Path) -> None:
        super().__init__(index)
        self._images_with = cache(self._count_images_with)

    def _matching(self, text: str, objects: Sequence[AnnotatedObject]) -> list[AnnotatedObject]:
        shared_images = sum((self._images_with(kind) for kind in self._kinds_named(text)), Counter[str]())
        candidates = sorted({thing.name for thing in objects if shared_images[thing.name]})
        most_frequent = max(candidates, key=shared_images.__getitem__, default=None)
        return [thing for thing in objects if thing.name == most_frequent]

    def _count_images_with(self, name: str) -> Counter[str]:
        """Count the images in which each other kind of object is annotated together with this one."""
        images = "SELECT DISTINCT image FROM objects WHERE name = ?"
        query = f"SELECT name, count(DISTINCT image) FROM objects WHERE name != ? AND image IN ({images}) GROUP BY name"
        return Counter(dict(self._db.execute(query, (name, name)).fetchall()))


def _alike(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Return whether two sizes may be of one image, perhaps scaled; another image of the same name is not this one."""
    return abs(a[0] * b[1] / (a[1] * b[0]) - 1) < 0.03


def matching_objects(expression: str, objects: Sequence[AnnotatedObject]) -> list[AnnotatedObject]:
    """Return the objects that an expression names: by its head noun (lemma, plural, synonym), the longest name first.

    Where the expression has adjectives that some of these objects are annotated with, only they remain.
    """
    words = [{word, lemma, word.removesuffix("s"), word.removesuffix("es")} for word, lemma in lemmas(expression)]
    spelled = [word for word, _ in lemmas(expression)]
    # Without a noun that the tagger knows ("the moped", "someone"), the last word is taken for the head.
    head = head_noun(expression.casefold(), nouns(expression.casefold())) or (spelled[-1] if spelled else None)
    if head not in spelled:
        return []
    place = len(spelled) - 1 - spelled[::-1].index(head)
    named: dict[int, list[AnnotatedObject]] = {}
    for thing in objects:
        if length := max((_covers(name, words, place) for name in _names(thing.name)), default=0):
            named.setdefault(length, []).append(thing)
    if not named:
        return []
    best = named[max(named)]
    described = [thing for thing in best if any({a.casefold()} & forms for a in thing.attributes for forms in words)]
    return described or best


def _names(label: str) -> tuple[str, ...]:
    label = label.casefold()
    return (label, *SYNONYMS.get(label, ()))


def _covers(name: str, words: Sequence[set[str]], place: int) -> int:
    """Return how many words of ``name`` stand around the word at ``place`` in an expression; 0 if the name does not."""
    parts = name.split()
    for start in range(max(0, place - len(parts) + 1), place + 1):
        window = words[start : start + len(parts)]
        if len(window) == len(parts) and all(
            {part, part.removesuffix("s")} & forms for part, forms in zip(parts, window, strict=True)
        ):
            return len(parts)
    return 0


def index_annotations(files: Sequence[Path], index: Path) -> None:
    """Read COCO instance files or GQA scene-graph files into an index, unless it is there; it appears when complete.

    Raises:
        ValueError: a file that is neither, or not valid JSON.
    """
    if index.is_file():
        return
    with create_index(index) as db:
        db.execute("CREATE TABLE objects (image TEXT, name TEXT, attributes TEXT, shape TEXT, width INT, height INT)")
        for file in files:
            db.executemany("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?)", _file_objects(file))
        db.execute("CREATE INDEX images ON objects (image)")


def _file_objects(path: Path) -> Iterator[tuple[Any, ...]]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no annotation file {path}")
    try:
        top = next(value for prefix, event, value in leading_events(path, 1000) if event == "map_key" and not prefix)
    except StopIteration:
        raise ValueError(f"{path} is neither a COCO instances file nor a GQA scene-graph file") from None
    try:
        if top in ("info", "images", "annotations", "categories", "licenses"):
            yield from _coco_objects(path)
        else:
            yield from _gqa_objects(path)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is neither a COCO instances file nor a GQA scene-graph file: {error!r}") from error


def _coco_objects(path: Path) -> Iterator[tuple[Any, ...]]:
    categories = {item["id"]: item["name"] for item in json_items(path, "categories.item")}
    images = {
        item["id"]: (_image_key(item["file_name"]), item["width"], item["height"])
        for item in json_items(path, "images.item")
    }
    for item in json_items(path, "annotations.item"):
        image, width, height = images[item["image_id"]]
        shape = json.dumps(item.get("segmentation") or item["bbox"])
        yield image, categories[item["category_id"]], "[]", shape, width, height


def _gqa_objects(path: Path) -> Iterator[tuple[Any, ...]]:
    for image, graph in json_members(path):
        for thing in (graph["objects"] or {}).values():
            box = [thing["x"], thing["y"], thing["w"], thing["h"]]
            attributes = json.dumps(thing.get("attributes") or [])
            size = graph["width"], graph["height"]
            yield _image_key(image), thing["name"], attributes, json.dumps(box), *size


def _image_key(name: str) -> str:
    """Return what files of one image share: COCO's 12 digits without prefix, else the name without its ending."""
    stem = Path(name).stem
    number = _COCO_FILE.fullmatch(stem)
    return number.group(1) if number else stem


def _decode(segmentation: Any, size: tuple[int, int]) -> BoolArray:
    """COCO's polygons or run lengths as a mask (height, width)."""
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise ImportError("masks of COCO instances need `pip install fivl-hf[annotations]`") from error
    width, height = size
    try:
        _check_segmentation(segmentation, size)
        if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
            encoded: Any = segmentation
        else:
            encoded = coco.frPyObjects(segmentation, height, width)
        merged = coco.merge(encoded) if isinstance(encoded, list) else encoded
        return np.asarray(coco.decode(merged)).astype(bool)
    except Exception as error:  # pycocotools raises bare ones
        raise ValueError(f"a segmentation that is neither polygons nor run lengths: {error}") from error


def _check_segmentation(segmentation: Any, size: tuple[int, int]) -> None:
    """Refuse what pycocotools would believe: it takes memory by the numbers that it is given, and writes past it."""
    width, height = size
    if not isinstance(segmentation, dict):
        corners = np.array([value for polygon in segmentation for value in polygon], dtype=np.float64)
        if not np.isfinite(corners).all() or np.abs(corners).max(initial=0) > 2 * max(size):
            raise ValueError(f"a polygon that leaves the {width}x{height} image")
        return
    counts = segmentation.get("counts")
    if list(segmentation.get("size", ())) != [height, width]:
        shown = f"{width}x{height} image"
        raise ValueError(f"run lengths of size {segmentation.get('size')} for a {shown}")
    runs = _run_lengths(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or any(run < 0 for run in runs) or sum(runs) != width * height:
        raise ValueError("run lengths that do not add up to the image")


def _run_lengths(text: str) -> list[int]:
    """COCO's compressed run lengths: 6-bit characters, five bits of a number each; from the third on, differences."""
    runs: list[int] = []
    value = shift = 0
    for character in text.encode("ascii"):
        code = character - 48
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (code & 16) << (shift - 4) if code & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
