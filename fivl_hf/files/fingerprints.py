"""Short digests by which results and caches know what they were made from."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["content_fingerprint", "exact_digest", "files_digest", "text_digest"]

_BLOCKS, _BLOCK = 64, 1 << 16


def files_digest(files: Iterable[Path]) -> str:
    """Return 16 hexadecimal digits that change when one of the files is replaced or written to (size and time)."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]


def content_fingerprint(files: Iterable[Path]) -> str:
    """Return 16 hexadecimal digits of what files hold, wherever they lie: names, sizes, and up to 4 MB of each.

    Large files are sampled in 64 blocks: two training runs differ in all of their weights, not in a few.
    """
    content = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        size = path.stat().st_size
        content.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _BLOCKS * _BLOCK:
                content.update(file.read())
                continue
            for number in range(_BLOCKS):
                file.seek(number * (size - _BLOCK) // (_BLOCKS - 1))
                content.update(file.read(_BLOCK))
    return content.hexdigest()[:16]


def exact_digest(files: Iterable[Path]) -> str:
    """Return the SHA-256 of the bytes of files, one behind the other."""
    content = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
    return content.hexdigest()


def text_digest(text: str) -> int:
    """Return 64 bits of a text's digest, from 0 up; two of a million texts share theirs once in 10^7 cases."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
