"""The page of an explanation: heads, measures, knock-out, depth, boxes and examples, from the files of its folder."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError
from matplotlib.figure import Figure

from fivl_hf.explain.folders import EXPLANATION
from fivl_hf.explain.measures import LOWER_IS_BETTER
from fivl_hf.files.atomic import write_atomically
from fivl_hf.files.results import read_settings
from fivl_hf.images import data_url
from fivl_hf.show.pages import figure_url, render_page
from fivl_hf.show.plots import depth_curves, effect_curves

__all__ = ["LABELS", "knockout_figure", "layers_label", "page_in", "three_digits", "write_heads_report"]

# Bytes of pictures that are still put into the page itself.
_EMBEDDED = 6_000_000
LABELS = {
    "auroc": "AUROC",
    "spearman": "Spearman's correlation",
    "average_precision": "average precision",
    "pointing_game": "pointing game",
    "mass_lift": "attention mass / mask share",
    "iou": "IoU",
    "mse": "MSE (lower is better)",
}
_HOW = {
    "zero": "The heads' output is 0.",
    "mean": "The heads' output is their mean over all tokens.",
    "edges": "In these heads, text does not see the image.",
}


def page_in(folder: Path) -> Path:
    """Return where the page is; beside an evaluation, whose page is ``report.html``, it is ``heads.html``."""
    return folder / ("heads.html" if (folder / "reliance.json").exists() else "report.html")


def write_heads_report(folder: Path) -> Path:
    """Write the page of an explanation into its folder.

    It needs no server and no network. If the pictures are large, it shows those in ``pictures`` beside it.

    Returns:
        Its path.

    Raises:
        FileNotFoundError: the folder holds no explanation.
        ValueError: it cannot be shown.
    """
    if not (folder / EXPLANATION).exists():
        raise FileNotFoundError(f"{folder} holds no {EXPLANATION}: finish fivl explain")
    result = read_settings(folder / EXPLANATION, "run fivl explain again, with --restart")
    try:
        page = _page(folder, result)
    except (TypeError, KeyError, AttributeError, UndefinedError) as error:
        raise ValueError(
            f"{folder / EXPLANATION} cannot be shown ({error!r}): run fivl explain again, with --restart"
        ) from error
    write_atomically(page_in(folder), page)
    return page_in(folder)


def _page(folder: Path, result: Mapping[str, Any]) -> str:
    measures = {name: result["measures"][name] for name in LABELS if name in result["measures"]}
    knockout, lens = result.get("knockout"), result["lens"]
    boxes = result.get("localization", {})
    aligned = knockout["sets"]["aligned"]["effects"] if knockout else []
    data = {
        "measures": {
            name: {
                "label": LABELS[name],
                "alignment": each["alignment"],
                "control_alignment": each["control_alignment"],
                "top": each["top_heads"],
                "chosen": each["held_out"].get("heads", []),
                "chance": each["chance"],
                "lower_is_better": name in LOWER_IS_BETTER,
            }
            for name, each in measures.items()
        }
    }
    return render_page(
        "heads.html.jinja",
        model=result.get("model", "a model"),
        result=result,
        auroc=measures["auroc"]["held_out"],
        top_count=max((len(each["top_heads"]) for each in measures.values()), default=0),
        measures=[
            {"label": label, "held_out": held_out, "chance": chance, "heads": _chosen_heads(held_out)}
            for label, held_out, chance in _held_out(measures)
        ],
        reason=measures["auroc"]["held_out"].get("reason"),
        knockout=knockout,
        knockout_how=_HOW[knockout["how"]] if knockout else "",
        knockout_command=_knockout_command(folder, result),
        knockout_figure=figure_url(knockout_figure(knockout)) if knockout else None,
        lowest_p=min(aligned, key=lambda each: each["p"]) if aligned else None,
        sizes=len(aligned),
        effects=_effects(knockout) if knockout else [],
        lens=figure_url(depth_curves(lens["rank"])) if lens["rank"] else None,
        boxes={} if "reason" in boxes else boxes,
        boxes_reason=boxes.get("reason"),
        pictures=_pictures(folder),
        # `<` is escaped, so that no name can close the script element.
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _held_out(measures: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], float | None]]:
    """Yield label, result on held-out images and chance level of each measure."""
    for name, each in measures.items():
        yield LABELS[name], each["held_out"], each["chance"]
        if "without_sinks" in each:
            yield f"{LABELS[name]} without sink tokens", each["without_sinks"], each["chance"]


def _chosen_heads(held_out: Mapping[str, Any]) -> str:
    heads = held_out.get("heads", [])
    thresholds = held_out.get("thresholds", [None] * len(heads))
    each = [
        f"{layer},{head}" + ("" if threshold is None else f" above {threshold:g}")
        for (layer, head), threshold in zip(heads, thresholds, strict=True)
    ]
    return " · ".join(dict.fromkeys(each))


def _knockout_command(folder: Path, result: Mapping[str, Any]) -> str:
    about = f"--model {result.get('model', 'MODEL')} --dataset {result.get('dataset', 'ROWS')}"
    return f"fivl knockout {about} --split {result.get('split', 'test')} --output {folder}"


def knockout_figure(knockout: Mapping[str, Any]) -> Figure:
    """Draw the curves of a knock-out, as ``knockout.json`` has them."""
    curves = {name: each["effects"] for name, each in knockout["sets"].items() if each["effects"]}
    return effect_curves(curves, "specific", "drop of the expressions' log-probability\nbeyond that of other tokens")


def _effects(knockout: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all effects as lines of a table."""
    sets = [{"name": name, **each} for name, found in knockout["sets"].items() for each in found["effects"]]
    windows = [
        {"name": layers_label(*each["layers"]), "k": "all", "p": None, "random": None, **each}
        for each in knockout.get("windows", [])
    ]
    return sets + windows


def three_digits(value: float | None) -> str:
    """Return a number as text; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def layers_label(first: int, last: int) -> str:
    """Return how a window of layers is called."""
    return f"layer {first}" if first == last else f"layers {first} to {last}"


def _pictures(folder: Path) -> list[str]:
    paths = sorted((folder / "pictures").glob("*.png"))
    if sum(path.stat().st_size for path in paths) > _EMBEDDED:
        return [f"pictures/{path.name}" for path in paths]
    return [data_url(path.read_bytes(), "png") for path in paths]
