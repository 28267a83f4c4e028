"""Another row's image for each row: its mask and its keyword are the controls."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fivl_hf.explain.samples import Sample
from fivl_hf.images import ImageError, encoded_bytes
from fivl_hf.keywords import head_noun, word_token_id
from fivl_hf.masks import BoolArray, FloatArray, coverage, decode_mask

__all__ = ["OtherImage", "OtherImages", "image_key"]

# Rows that a search looks at: a dataset's questions about one image are neighbours.
_NEIGHBOURS = 1000
# Rows that are kept, and digests of their images.
_KEPT_ROWS, _KEPT_KEYS = 32, 2 * _NEIGHBOURS


def image_key(raw: Mapping[str, Any]) -> str:
    """Return a digest of a row's images."""
    return hashlib.sha256(b"".join(encoded_bytes(image) for image in raw["images"])).hexdigest()[:16]


@dataclass(frozen=True)
class OtherImage:
    """Another image's mask and the token of its keyword; None where there is no such."""

    mask: BoolArray | None = None
    keyword_id: int | None = None

    def coverage(self, sample: Sample, image: int) -> FloatArray | None:
        """(N,) how much of a sample's visual tokens the mask covers, stretched over one of its images."""
        if self.mask is None:
            return None
        width, height = sample.images[image].size
        scale = np.array([self.mask.shape[1] / width, self.mask.shape[0] / height] * 2)
        return np.asarray(coverage(self.mask[None], sample.boxes * scale)[0])


class OtherImages:
    """Finds, for each row, the next row with evidence (after the last, the first) that is about another image.

    Attributes:
        key: takes a row's number and returns the digest of its images.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], tokenizer: Any) -> None:
        self._rows, self._tokenizer = rows, tokenizer
        self._row = lru_cache(_KEPT_ROWS)(rows.__getitem__)
        self.key = lru_cache(_KEPT_KEYS)(lambda number: image_key(self._row(number)))
        self._usable_key = lru_cache(_KEPT_KEYS)(self._usable_key_of)

    def of(self, number: int) -> OtherImage:
        """Return the other image for a row."""
        count, image = len(self._rows), self.key(number)
        for step in range(1, min(count, _NEIGHBOURS)):
            other = (number + step) % count
            if self._usable_key(other) not in (None, image):
                row = self._row(other)
                first = row["key_expressions"][0]
                head = head_noun(first["text"], first["keywords"])
                return OtherImage(decode_mask(row["masks"][0]), word_token_id(self._tokenizer, head) if head else None)
        return OtherImage()

    def _usable_key_of(self, number: int) -> str | None:
        """Return the digest of a row's images; None for a row without evidence, or that cannot be read."""
        try:
            return self.key(number) if self._row(number).get("masks") else None
        except ImageError:
            return None  # reported when that row is explained
