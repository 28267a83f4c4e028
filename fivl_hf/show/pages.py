"""Self-contained HTML pages: templates of this package, pictures inside."""

import io
from importlib import resources
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from fivl_hf.images import data_url, image_bytes

__all__ = ["figure_url", "picture_url", "render_page", "template_text"]


def render_page(template: str, **values: Any) -> str:
    """Return a page from a template of this package; text is escaped, a missing value is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(loader=PackageLoader("fivl_hf.show", "templates"), autoescape=True, undefined=StrictUndefined)
    pages.filters["number"] = _two_digits
    return pages.get_template(template).render(**values)


def template_text(name: str) -> str:
    """Return a style sheet or script of this package."""
    return (resources.files("fivl_hf.show") / "templates" / name).read_text(encoding="utf-8")


def _two_digits(value: float | None) -> str:
    # Adding zero makes -0.0 of a rounded -0.004 positive.
    return "–" if value is None else f"{round(value, 2) + 0.0:.2f}"


def figure_url(figure: Figure) -> str:
    """Return a figure as a data URL."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200)
    return data_url(buffer.getvalue(), "png")


def picture_url(image: Image.Image, format: str = "PNG") -> str:
    """Return a picture as a data URL; PNG keeps rendered scenes crisp, JPEG keeps photographs small."""
    return data_url(image_bytes(image, format, optimize=True), format.lower())
