"""A release in the exact format of FiVL's authors, generated: conversations, segments, tensors in a tar, images.

Masks are shapes in pixels of the source image; the released value of a patch is the mean of the padded mask over it.
(The authors' masks were probably drawn at 336×336: ``padded_grid(mask, resized=True)``.)
"""

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image

__all__ = ["SyntheticRelease", "hostile_pickle", "make_release", "padded_grid", "released_tensor"]

SIZES = ((640, 480), (480, 640), (500, 375), (333, 500), (512, 512), (427, 640), (640, 427), (300, 450))
COLLECTIONS = ("coco/train2017", "gqa/images", "ocr_vqa/images", "textvqa/train_images", "vg/VG_100K")
THINGS = ("red kite", "brown dog", "wooden table", "young tennis player", "white plate", "old clock", "blue bus")


@dataclass
class SyntheticRelease:
    """What was generated.

    Attributes:
        grids: (24, 24) released values, 0 to 255, by (sample id, turn from 0, expression).
        boxes: source-pixel boxes by the same keys.
        expected: sample ids that must become rows.
        duplicates, tied: ids of several samples, and those whose samples fit equally well.
        missing_image, missing_tensor, without_segments: ids with missing pieces.
        turned: ids whose image is stored lying, and turned to be shown; grids and boxes are of the stored one.
    """

    folder: Path
    grids: dict[tuple[str, int, str], np.ndarray] = field(default_factory=dict)
    boxes: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)
    expected: set[str] = field(default_factory=set)
    duplicates: set[str] = field(default_factory=set)
    tied: set[str] = field(default_factory=set)
    missing_image: set[str] = field(default_factory=set)
    missing_tensor: set[str] = field(default_factory=set)
    without_segments: set[str] = field(default_factory=set)
    turned: set[str] = field(default_factory=set)
    hostile: set[str] = field(default_factory=set)


def make_release(
    folder: Path, samples: int, seed: int = 0, *, hostile: bool = True, canary: Path | None = None
) -> SyntheticRelease:
    """Generate a release of ``samples`` conversations in ``folder``.

    Args:
        hostile: put a pickle that would make the file ``canary``, a name that leaves the archive, and a header that
            claims 2 GB among the tensors.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made = SyntheticRelease(folder)
    conversations: list[dict[str, Any]] = []
    segments: dict[str, Any] = {}
    with tarfile.open(folder / "dataset_grounded.tar", "w") as archive:
        for number in range(samples):
            for sample, parts in _sample(made, archive, rng, number):
                conversations.append(sample)
                if parts:
                    segments[sample["id"]] = parts
            if hostile and number == samples // 2:
                _add_hostile(made, archive, segments, conversations, canary)
        segments["000999999999"] = [{"turn": 1, "prompts": []}]
    (folder / "fivl_instruct.json").write_text(json.dumps(segments))
    (folder / "llava_v1_5_mix665k.json").write_text(json.dumps(conversations))
    return made


def released_tensor(grid: np.ndarray) -> bytes:
    """Return a grid as ``torch.save`` writes it."""
    buffer = io.BytesIO()
    torch.save(torch.tensor(grid, dtype=torch.float64), buffer)
    return buffer.getvalue()


def padded_grid(mask: np.ndarray, *, resized: bool = False) -> np.ndarray:
    """(24, 24) means, 0 to 255, of a source-pixel mask (H, W) padded to a square; with ``resized``, at 336×336."""
    height, width = mask.shape
    side = max(mask.shape)
    square = np.zeros((side, side))
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = mask * 255.0
    if resized:
        small = np.asarray(Image.fromarray(square.astype(np.uint8)).resize((336, 336), Image.Resampling.NEAREST))
        return small.astype(np.float64).reshape(24, 14, 24, 14).mean((1, 3))
    edges = np.arange(25) * side / 24
    pixels = np.arange(side)
    # How much of each pixel lies in each of 24 equal cells.
    share = np.clip(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels), 0, None)
    return np.asarray(share @ square @ share.T / (side / 24) ** 2)


def hostile_pickle(canary: Path) -> bytes:
    """Return a torch.save file whose pickle would make a file."""
    buffer = io.BytesIO()
    torch.save(_Attack(str(canary)), buffer)
    return buffer.getvalue()


class _Attack:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def _sample(
    made: SyntheticRelease, archive: tarfile.TarFile, rng: np.random.Generator, number: int
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield one sample with its segments, and sometimes another of the same id."""
    id = f"{number:012d}"
    collection = COLLECTIONS[number % len(COLLECTIONS)]
    image = f"{collection}/{id}.jpg"
    size = SIZES[int(rng.integers(len(SIZES)))]
    path = made.folder / image
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = number % 50
    if kind == 11:
        made.missing_image.add(id)
    else:
        turned = kind == 29
        path.write_bytes(_photograph(rng, size, orientation=6 if turned else 1))
        if turned:
            made.turned.add(id)
    things = rng.permutation(THINGS)[:3]
    turns = [("<image>\nWhat is in the image?", f"A {things[0]} and a {things[1]}.")]
    turns += [("Anything else?", f"There is a {things[2]}, too.")]
    sample = {"id": id, "image": image, "conversations": _messages(turns)}
    if kind == 13:
        made.without_segments.add(id)
        yield sample, []
        return
    parts = []
    for turn, names in ((0, things[:2]), (1, things[2:])):
        prompts = []
        for place, name in enumerate(names):
            mask_name = f"{collection.replace('coco', 'coco_segmented')}/{id}/{id}_{turn}{place:03d}.pt"
            mask, box = _shape(rng, size)
            grid = padded_grid(mask)
            if kind == 17 and place == 0 and turn == 0:
                made.missing_tensor.add(id)
            else:
                _add(archive, mask_name, released_tensor(grid))
                made.grids[id, turn, str(name)] = grid
                made.boxes[id, turn, str(name)] = box
            padded = _padded_box(box, size)
            prompts.append(
                {"prompt": str(name), "mask_img": f"{mask_name[:-3]}.png", "mask_rel": mask_name, "bbox": [padded]}
            )
        parts.append({"turn": turn + 1, "prompts": prompts})
    if kind != 11:
        made.expected.add(id)
    if kind == 19:
        # Another conversation of the same id, which the segments do not fit, comes first.
        made.duplicates.add(id)
        other = [("<image>\nWhat is this?", "It is a street."), ("Why?", "Because of the houses.")]
        yield {"id": id, "image": image, "conversations": _messages(other)}, []
    yield sample, parts
    if kind == 23:
        made.duplicates.add(id)
        made.tied.add(id)
        yield dict(sample), []


def _messages(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    roles = ("human", "gpt")
    return [{"from": role, "value": text} for turn in turns for role, text in zip(roles, turn, strict=True)]


def _photograph(rng: np.random.Generator, size: tuple[int, int], orientation: int) -> bytes:
    return _noise(int(rng.integers(8)), size, orientation)


@cache
def _noise(seed: int, size: tuple[int, int], orientation: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation != 1:
        exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85, exif=exif)
    return buffer.getvalue()


def _shape(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, list[float]]:
    """Return an ellipse or a rectangle, and its box."""
    width, height = size
    y, x = np.mgrid[:height, :width] + 0.5
    center = rng.uniform(0.2, 0.8, 2) * size
    radius = rng.uniform(0.05, 0.35, 2) * size
    away = np.abs(np.stack([x - center[0], y - center[1]])) / radius[:, None, None]
    mask = (away**2).sum(0) <= 1 if rng.random() < 0.5 else away.max(0) <= 1
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return mask, [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def _padded_box(box: list[float], size: tuple[int, int]) -> dict[str, float]:
    side = max(size)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    scale = 336 / side
    corners = [(box[0] + left) * scale, (box[1] + top) * scale, (box[2] + left) * scale, (box[3] + top) * scale]
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    archive.addfile(header, io.BytesIO(data))


def _add_hostile(
    made: SyntheticRelease,
    archive: tarfile.TarFile,
    segments: dict[str, Any],
    conversations: list[dict[str, Any]],
    canary: Path | None,
) -> None:
    """Three attacks in the middle of the archive, each with a sample that asks for it."""
    attacks = {"code": "attacks/code.pt", "path": "../outside.pt", "size": "attacks/size.pt"}
    image = made.folder / "coco" / "attack.jpg"
    Image.new("RGB", (100, 100)).save(image)
    for name, member in attacks.items():
        made.hostile.add(name)
        conversations.append(
            {"id": name, "image": "coco/attack.jpg", "conversations": _messages([("What?", "A red kite.")])}
        )
        prompt = {"prompt": "red kite", "mask_img": "x.png", "mask_rel": member, "bbox": []}
        segments[name] = [{"turn": 1, "prompts": [prompt]}]
    _add(archive, attacks["code"], hostile_pickle(canary or made.folder / "canary"))
    _add(archive, attacks["path"], released_tensor(np.full((24, 24), 255.0)))
    header = tarfile.TarInfo(attacks["size"])
    header.size = 2_000_000_000
    # The header alone: what it claims is not there, the next member follows at once.
    archive.fileobj.write(header.tobuf())
    archive.offset += 512
