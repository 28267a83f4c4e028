"""Conversations with images, as augmentation reads them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from fivl_hf.images import ImageError
from fivl_hf.jobs.outcomes import Drop, Failure

__all__ = ["Conversation", "ImageFile", "ImageSource", "Record", "StoredImage", "image_file", "records_digest"]

MAX_IMAGE_BYTES = 100_000_000


class ImageSource(Protocol):
    """An image that is read where it is needed: the reader passes on thousands without opening one."""

    @property
    def name(self) -> str:
        """File name or id, by which annotations know the image."""
        ...

    def exists(self) -> bool:
        """Return whether there is anything to read; cheap, so that nobody is paid for an image that is missing."""
        ...

    def read(self) -> bytes:
        """Return the encoded bytes; raises ImageError or OSError if there are none."""
        ...


@dataclass(frozen=True)
class StoredImage:
    """An image whose bytes are at hand, as in a dataset."""

    data: bytes = field(repr=False)
    name: str = ""

    def exists(self) -> bool:
        return True

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class ImageFile:
    """An image on disk: the first of several possible places that exists."""

    name: str
    places: tuple[Path, ...]

    def exists(self) -> bool:
        return any(place.is_file() for place in self.places)

    def version(self) -> str:
        """Changes when the file does; empty if there is none."""
        for place in self.places:
            try:
                found = place.stat()
            except OSError:
                continue
            return f"{found.st_size} {found.st_mtime_ns}"
        return ""

    def read(self) -> bytes:
        """Return the encoded bytes.

        Raises:
            ImageError: more bytes than any image has.
            FileNotFoundError: it is in none of the places.
        """
        for place in self.places:
            if place.is_file():
                size = place.stat().st_size
                if size > MAX_IMAGE_BYTES:
                    raise ImageError(f"{place} has {size:,} bytes; at most {MAX_IMAGE_BYTES:,} are read")
                return place.read_bytes()
        raise FileNotFoundError(f"there is no {' or '.join(map(str, self.places))}")


def image_file(name: object, roots: Sequence[Path]) -> ImageFile:
    """Return an image named in an input file, which must be in one of the folders.

    Raises:
        ImageError: no name, an absolute path, or one that leaves the folder.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise ImageError(f"{name!r} in place of an image's path")
    if any(len(part.encode()) > 255 for part in name.split("/")) or len(name) > 4_000:
        raise ImageError(f"the image path {name[:40]!r}... is too long")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        raise ImageError(f"the image path {name!r} leaves the image folder")
    return ImageFile(str(path), tuple(root / path for root in roots))


@dataclass(frozen=True)
class Conversation:
    """A sample before augmentation.

    Attributes:
        messages: plain text in chat format.
        answers: the reference answers of a benchmark's question, the usual one first; empty for a conversation.
        category: of a benchmark's question.
        evidence: what is known already of where the images show the answers, for tools that read it.
    """

    id: str
    images: tuple[ImageSource, ...]
    messages: tuple[dict[str, str], ...]
    source: str
    answers: tuple[str, ...] = ()
    category: str = ""
    evidence: tuple[Any, ...] = ()


Record = Conversation | Drop | Failure


def records_digest(records: Sequence[Record]) -> str:
    """Hash records; image files, which have not been read yet, count by name, size and time."""
    content = hashlib.sha256()
    for record in records:
        if isinstance(record, Conversation):
            texts = [record.messages, record.answers, record.category, record.source]
            images = [(each.name, _image_digest(each)) for each in record.images]
            content.update(json.dumps([record.id, texts, images]).encode() + repr(record.evidence).encode())
        else:
            content.update(json.dumps([record.id, record.reason, record.detail]).encode())
    return content.hexdigest()


def _image_digest(image: ImageSource) -> str:
    if isinstance(image, StoredImage):
        return hashlib.sha256(image.data).hexdigest()
    return image.version() if isinstance(image, ImageFile) else ""
