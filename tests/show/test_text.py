import numpy as np
from PIL import Image

from fivl_hf.show.text import Pen

BLACK, RED = (0, 0, 0), (255, 0, 0)


def page(width=120, height=200):
    return Image.new("RGB", (width, height), "white")


def ink(image):
    """The columns and rows that hold anything but white."""
    marked = np.asarray(image).min(axis=2) < 255
    return np.flatnonzero(marked.any(axis=0)), np.flatnonzero(marked.any(axis=1))


def test_lines_are_broken_between_words_and_keep_to_the_width():
    sheet = page()
    pen = Pen(sheet, left=10, top=20, width=70)
    pen.write([("one two three four five six", None)], BLACK)
    columns, rows = ink(sheet)
    assert columns.min() >= 10 and columns.max() <= 80
    assert rows.min() >= 20 and rows.max() < pen.y
    assert pen.y - 20 > 2 * 21


def test_a_word_wider_than_the_line_is_shortened():
    sheet = page()
    Pen(sheet, width=60).write([("internationalisation", None)], BLACK)
    assert ink(sheet)[0].max() <= 60


def test_a_ground_is_as_wide_as_its_words():
    sheet = page()
    Pen(sheet).write([("a ", None), ("car", RED)], BLACK)
    red = (np.asarray(sheet) == RED).all(axis=2)
    columns = np.flatnonzero(red.any(axis=0))
    alone = page()
    Pen(alone).write([("a ", None)], BLACK)
    assert columns.min() > ink(alone)[0].max()
    assert 15 < columns.max() - columns.min() < 60


def test_nothing_is_written_beyond_the_page():
    sheet = page(height=60)
    pen = Pen(sheet)
    for _ in range(10):
        pen.write([("word " * 20, None)], BLACK)
    assert sheet.height == 60
    assert pen.y >= 60 - 22
