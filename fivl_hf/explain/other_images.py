"""Which rows are about the same image, and another image for each row: its mask and keyword are the controls."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from fivl_hf.explain.samples import Sample
from fivl_hf.images import ImageError, encoded_bytes
from fivl_hf.keywords import head_noun, word_token_id
from fivl_hf.masks import BoolArray, FloatArray, coverage, decode_mask

__all__ = ["OtherImage", "OtherImages", "image_groups"]

# Rows that a search looks at: a dataset's questions about one image are neighbours.
_NEIGHBOURS = 1000
# Rows that are kept.
_KEPT_ROWS = 32


def image_groups(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return, for each row, a digest that it shares with all rows that are linked to it by images in common.

    Returns:
        "" for a row whose images cannot be read.
    """
    first: dict[str, str] = {}  # of linked images, a link to one that stands for all

    def standing(image: str) -> str:
        while first[image] != image:
            image = first[image]
        return image

    keys = []
    for row in tqdm(rows, desc="Images", unit="row", delay=5):
        try:
            images = [hashlib.sha256(encoded_bytes(image)).hexdigest()[:16] for image in row.get("images") or ()]
        except (ImageError, TypeError):
            images = []  # reported when that row is explained
        for image in images:
            first.setdefault(image, image)
            one, other = sorted((standing(images[0]), standing(image)))
            first[other] = one
        keys.append(images[0] if images else "")
    return [standing(key) if key else "" for key in keys]


@dataclass(frozen=True)
class OtherImage:
    """Another image's mask and the token of its keyword; None without another image, or without a keyword."""

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

    Args:
        groups: of the rows (:func:`image_groups`).
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], groups: Sequence[str], tokenizer: Any) -> None:
        self._rows, self._groups = rows, groups
        self._token = lru_cache(_NEIGHBOURS)(partial(word_token_id, tokenizer))
        self._row = lru_cache(_KEPT_ROWS)(rows.__getitem__)
        self._has_evidence = lru_cache(2 * _NEIGHBOURS)(lambda number: bool(self._row(number).get("masks")))

    def of(self, number: int) -> OtherImage:
        """Return the other image for a row."""
        count = len(self._rows)
        for step in range(1, min(count, _NEIGHBOURS)):
            other = (number + step) % count
            if self._groups[other] not in ("", self._groups[number]) and self._has_evidence(other):
                row = self._row(other)
                first = row["key_expressions"][0]
                head = head_noun(first["text"], first["keywords"])
                return OtherImage(decode_mask(row["masks"][0]), self._token(head) if head else None)
        return OtherImage()
