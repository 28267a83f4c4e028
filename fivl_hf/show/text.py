"""Wrapped text on an image."""

from collections.abc import Iterable

from PIL import Image, ImageDraw

from fivl_hf.show.drawing import Color, ink_on, text_font

__all__ = ["INK", "SOFT", "Pen"]

# Colours of letters: the text, and what is said about it.
INK, SOFT = (29, 36, 48), (92, 102, 117)

_LINE_HEIGHT = 1.35


class Pen:
    """Writes paragraphs one below the other; text beyond the end of the page is left out.

    Args:
        left, top: where the first one begins, in pixels of the page.
        width: of a line; to the page's edge if not given.
        size: of the letters.

    Attributes:
        y: where the next paragraph begins.
    """

    def __init__(
        self, page: Image.Image, left: int = 0, top: int = 0, width: int | None = None, size: int = 16
    ) -> None:
        self._font, self._draw = text_font(size), ImageDraw.Draw(page)
        self._left, self._width, self._height = left, width or page.width - left, round(size * _LINE_HEIGHT)
        self._limit = page.height - self._height
        self.y = top

    def write(self, runs: Iterable[tuple[str, Color | None]], ink: Color, gap: int = 2) -> None:
        """Write one paragraph of (text, background colour or None) pairs."""
        x = 0
        for text, background in runs:
            for word in _words(text):
                length = self._length(word)
                if x and x + length > self._width:
                    x, self.y = 0, self.y + self._height
                    word = word.lstrip()
                word = self._shortened(word)
                length = self._length(word)
                if self.y > self._limit:
                    return
                place = self._left + x
                if background:
                    self._draw.rectangle((place, self.y, place + length, self.y + self._height - 2), fill=background)
                self._draw.text((place, self.y), word, fill=ink_on(background) if background else ink, font=self._font)
                x += length
        self.y += self._height + gap

    def _length(self, word: str) -> int:
        return round(self._draw.textlength(word, self._font))

    def _shortened(self, word: str) -> str:
        """Return a word, shortened with "…" if it is wider than a line."""
        while len(word) > 1 and self._length(word) > self._width:
            word = word[:-2] + "…"
        return word


def _words(text: str) -> list[str]:
    """Split text into words, each with the space before it."""
    words = " ".join(text.split()).split(" ")
    spaced = [word if i == 0 else f" {word}" for i, word in enumerate(words)]
    spaced[0] = f" {spaced[0]}" if text[:1].isspace() else spaced[0]
    if text[-1:].isspace():
        spaced[-1] += " "
    return spaced
