import base64
import io

import jinja2
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fivl_hf.show.pages import figure_url, picture_url, render_page


def decoded(url):
    kind, data = url.split(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


def test_pictures_are_inside_the_page():
    kind, image = decoded(picture_url(Image.new("RGB", (5, 4), "red")))
    assert (kind, image.size, image.convert("RGB").getpixel((0, 0))) == ("data:image/png", (5, 4), (255, 0, 0))
    kind, image = decoded(picture_url(Image.new("RGB", (5, 4), "red"), "JPEG"))
    assert (kind, image.format) == ("data:image/jpeg", "JPEG")
    kind, image = decoded(figure_url(Figure(figsize=(1, 2))))
    assert (kind, image.size) == ("data:image/png", (200, 400))


def test_what_rows_say_is_text_and_what_is_missing_an_error():
    page = render_page("rows.html.jinja", title="<script>alert(1)</script>", usable="", cards=[])
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    with pytest.raises(jinja2.UndefinedError):
        render_page("rows.html.jinja", title="x")
