"""Pictures of what was found: head maps, one head's attention over the image, masks, predicted segments."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike
from PIL import Image

from fivl_hf.images import rgb
from fivl_hf.masks import paint_tokens
from fivl_hf.show.drawing import enlarge, outline_masks

__all__ = [
    "depth_curves",
    "effect_curves",
    "head_map",
    "overlay_tokens",
    "paint_segments",
    "scatter_models",
]

# Distinguishable without colour.
_MARKERS = "osD^vP*X"
_LABELLED = 64  # maps of up to 64 heads have room for numbers


def head_map(alignment: ArrayLike, title: str = "", *, framed: tuple[int, int] | None = None) -> Figure:
    """Return a layers × heads map of correlations, one head framed; all maps have one scale, from -1 to 1.

    Args:
        alignment: (L, H) scores; NaN is left blank.
        framed: (layer, head); the best one if not given.
    """
    scores = np.asarray(alignment, dtype=np.float64)
    layers, heads = scores.shape
    figure = Figure(figsize=(min(9, 2.6 + 0.5 * heads), min(8, 1.7 + 0.5 * layers)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(scores, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    if scores.size <= _LABELLED:
        for (layer, head), value in np.ndenumerate(scores):
            if np.isfinite(value):
                ink = "w" if abs(value) > 0.6 else "k"
                axes.text(head, layer, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=9)
    if np.isfinite(scores).any():
        layer, head = framed or np.unravel_index(np.nanargmax(scores), scores.shape)
        axes.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, edgecolor="k", linewidth=2))
    axes.set(
        xlabel="head",
        ylabel="layer",
        xticks=range(0, heads, max(1, heads // 16)),
        yticks=range(0, layers, max(1, layers // 16)),
    )
    figure.suptitle(title, fontsize=10)
    figure.colorbar(image, ax=axes, label="Spearman correlation")
    return figure


def overlay_tokens(image: Image.Image, values: ArrayLike, boxes: ArrayLike, side: int = 288) -> Image.Image:
    """Return one head's attention drawn over the image: dark where it does not look, bright where it does.

    Args:
        values: (N,) attention to each visual token of this image.
        boxes: (N, 4) what each sees, source pixels; NaN rows are skipped.
        side: length of the longer edge of the picture that comes back.
    """
    canvas = paint_tokens(values, boxes, image.size)
    top = np.nanmax(canvas) if np.isfinite(canvas).any() else 0.0
    strength = np.nan_to_num(canvas / top if top > 0 else canvas)
    heat = (colormaps["inferno"](strength)[..., :3] * 255).astype(np.uint8)
    picture = enlarge(rgb(image), side)
    return Image.blend(picture, Image.fromarray(heat).resize(picture.size, Image.Resampling.NEAREST), 0.62)


def paint_segments(image: Image.Image, segments: Sequence[ArrayLike], boxes: ArrayLike, side: int = 288) -> Image.Image:
    """Return the image with groups of visual tokens outlined, one palette colour a group, the other tokens dimmed.

    Args:
        segments: boolean (N,) arrays, one per group.
        boxes: (N, 4) what each token sees.
    """
    painted = [paint_tokens(np.asarray(segment, dtype=np.float64), boxes, image.size) == 1 for segment in segments]
    return outline_masks(image, painted, side=side)


def depth_curves(ranks: Mapping[str, Sequence[float | None]], y_label: str = "rank of the keyword") -> Figure:
    """Draw ranks after every layer, a line for each name; rank 1 is at the top."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for number, (name, values) in enumerate(ranks.items()):
        heights = [np.nan if value is None else value for value in values]
        axis.plot(range(len(heights)), heights, marker=_MARKERS[number], label=name, color=f"C{number}")
    axis.set_yscale("log")
    for formatted in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
        formatted(FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else ""))  # ranks start at 1
    axis.invert_yaxis()
    axis.set(xlabel="after layer", ylabel=y_label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    return figure


def effect_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], field: str, y_label: str) -> Figure:
    """Draw what sets of heads of growing size do, each beside the range of random sets like it.

    Args:
        curves: of each set, effects by size: ``k``, a value under ``field``, and the random sets' under ``random``.
        field: name of the effect.
    """
    figure = Figure(figsize=(1 + 4 * len(curves), 4), layout="constrained")
    axes = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axis, (name, effects) in zip(axes, curves.items(), strict=True):
        sizes = [each["k"] for each in effects]
        random = [each["random"][field] for each in effects]
        if all(random):
            low, middle, high = np.array([np.quantile(each, (0.025, 0.5, 0.975)) for each in random]).T
            axis.fill_between(sizes, low, high, color="0.8", label="95% of random sets")
            axis.plot(sizes, middle, color="0.45", linestyle="--", label="their median")
        axis.plot(sizes, [each[field] for each in effects], marker="o", color="C0", label=f"{name} heads")
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.axhline(0, color="0.3", linewidth=0.8)
        axis.set(xlabel="heads knocked out", ylabel=y_label if axis is axes[0] else "")
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    return figure


def scatter_models(
    panels: Mapping[str, Mapping[str, tuple[float, float]]], x_label: str, y_label: str, notes: Mapping[str, str]
) -> Figure:
    """Draw a panel for each benchmark, with a labelled point for each model.

    Args:
        panels: of each benchmark, (x, y) of each model.
        notes: a line below a benchmark's name.
    """
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(1 + 4 * columns, 0.5 + 3.6 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, (name, points) in zip(axes, panels.items(), strict=False):
        for number, (model, (x, y)) in enumerate(points.items()):
            axis.scatter(x, y, marker=_MARKERS[number % len(_MARKERS)], s=46, color=f"C{number % 10}")
            axis.annotate(model, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=8)
        axis.set(xlabel=x_label, ylabel=y_label)
        axis.set_title("\n".join(text for text in (name, notes.get(name, "")) if text), fontsize=9)
        axis.margins(0.2)
        axis.grid(alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    return figure
