"""The words that a model predicts, looked for in images."""

from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from fivl_hf.augment.grounding import Grounder, GroundingRequest
from fivl_hf.augment.inputs.conversations import ImageSource, StoredImage
from fivl_hf.masks import BoolArray

__all__ = ["WordFinder"]


def _unread(row_id: str) -> ImageSource:
    """Return a source that names a row: detectors see the image and do not read it."""
    return StoredImage(b"", row_id)


class WordFinder:
    """Finds words in images, once with each of several grounders.

    Args:
        grounders: by their threshold; None for an exact one, which has none.
        source: returns the source of a row's image by the row's id, for grounders that read it.
    """

    def __init__(
        self, grounders: Mapping[float | None, Grounder], source: Callable[[str], ImageSource] = _unread
    ) -> None:
        self._grounders, self._source = grounders, source

    @property
    def thresholds(self) -> list[float | None]:
        """The grounders' thresholds, in their order."""
        return list(self._grounders)

    def find(self, row_id: str, image: Image.Image, words: Sequence[str]) -> list[list[BoolArray | None]]:
        """Return, for each threshold and word, a mask (H, W), or None where nothing is detected.

        Raises:
            ValueError: an image that the grounder does not know.
        """
        request = GroundingRequest(row_id, (image,), (self._source(row_id),), tuple(words))
        return [
            [grounding.mask if grounding else None for grounding in grounder.ground([request])[0]]
            for grounder in self._grounders.values()
        ]
