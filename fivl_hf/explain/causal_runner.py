"""``fivl knockout``: curves of what heads do, written to a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fivl_hf.explain.causal import effect_file, knockout_curves
from fivl_hf.explain.folders import KNOCKOUT, add_knockout
from fivl_hf.explain.knockout import How
from fivl_hf.explain.other_images import image_key
from fivl_hf.explain.selection import chooses
from fivl_hf.files.atomic import write_json
from fivl_hf.files.results import result_folder
from fivl_hf.show.plots import effect_curves

__all__ = ["curve_lines", "write_knockout"]

# What is written, the file that makes it complete first.
_FILES = (KNOCKOUT, "knockout.png", "knockout.jsonl")


def write_knockout(
    model: Any,
    processor: Any,
    rows: Sequence[Mapping[str, Any]],
    output: Path,
    *,
    how: How = "zero",
    sizes: Sequence[int] | None = None,
    draws: int = 20,
    seed: int = 0,
    about: Mapping[str, Any],
    restart: bool = False,
) -> dict[str, Any]:
    """Choose heads on half of the images, knock them out on the other, and write ``knockout.json`` and ``.png``.

    Every set's effect is appended to ``knockout.jsonl`` as it comes; a run of the same ``about`` goes on from there. An
    explanation of the same weights and rows in that folder gets a ``knockout``.

    Args:
        how, sizes, draws, seed: see :func:`fivl_hf.explain.causal.knockout_curves`.
        about: what the results were measured with (:func:`fivl_hf.storage.provenance.provenance`).
        restart: replace the results of another run.

    Raises:
        ValueError: all rows are about one image, or what ``knockout_curves`` raises.
        OSError: the folder is in use or cannot be written to.
    """
    halves: tuple[list[Any], list[Any]] = ([], [])
    for row in rows:
        halves[chooses(image_key(row))].append(row)
    measuring, choosing = halves
    if not choosing or not measuring:
        raise ValueError("the rows are about too few images to choose heads on some and knock them out on others")
    run = {**about, "dtype": str(model.dtype), "how": how, "seed": seed}
    with result_folder(output, run, kind="knockout", files=_FILES, restart=restart):
        result = {
            **run,
            **knockout_curves(
                model,
                processor,
                choosing,
                measuring,
                how=how,
                sizes=sizes,
                draws=draws,
                seed=seed,
                file=effect_file(output / "knockout.jsonl"),
            ),
        }
        curves = {name: found["effects"] for name, found in result["sets"].items() if found["effects"]}
        figure = effect_curves(
            curves, "specific", "fall of the expressions' log-probability\nbeyond that of other tokens"
        )
        figure.savefig(output / "knockout.png", dpi=150)
        write_json(output / KNOCKOUT, result)
        add_knockout(output, result)
    return result


def curve_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the curves as text."""
    lines = [f"{'heads':<16} {'k':>3}  expressions  other tokens  text only  random sets       p"]
    for name, found in result["sets"].items():
        for effect in found["effects"]:
            random = sorted(effect["random"]["specific"])
            between = f"[{random[0]:.3f}, {random[-1]:.3f}]" if random else "–"
            lines.append(
                f"{name:<16} {effect['k']:>3}  {effect['expression']:>11.3f}  {effect['other']:>12.3f}  "
                f"{effect['text_only']:>9.3f}  {between:>16}  {effect['p']:.3f}"
            )
    return lines
