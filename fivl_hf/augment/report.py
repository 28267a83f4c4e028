"""The report on a run: what was kept and what not, why, and a sheet of samples to look at."""

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fivl_hf.augment.shards import COVERAGE_BINS, ShardReport
from fivl_hf.drawing import PALETTE, tint_masks
from fivl_hf.images import open_image, rgb
from fivl_hf.masks import decode_mask
from fivl_hf.pages import figure_url, picture_url, render_page
from fivl_hf.schema import KeyExpression, validate_row

__all__ = ["write_problems", "write_report"]

_SHOWN = 24
_BLUE = "#0072b2"
# Of expressions whose mask is in another picture than the one drawn.
_ELSEWHERE = "#ddd"


@dataclass
class _Totals:
    """What all shards together say."""

    rejected: Counter[str] = field(default_factory=Counter)
    turn_counts: Counter[int] = field(default_factory=Counter)
    coverage: list[int] = field(default_factory=lambda: [0] * COVERAGE_BINS)
    seconds: float = 0.0

    def add(self, report: ShardReport) -> None:
        self.rejected.update(reason if text else f"whole answer: {reason}" for _, _, text, reason in report.rejected)
        self.turn_counts += report.turn_counts
        self.coverage = [a + b for a, b in zip(self.coverage, report.coverage, strict=True)]
        self.seconds += report.seconds


def write_report(folder: Path, reports: Iterable[ShardReport], files: Sequence[Path], result: dict[str, Any]) -> None:
    """Write ``report.json``, ``report.html`` and ``problems.jsonl`` (every sample and expression left out, and why).

    Args:
        files: the shards' rows, of which some are drawn.
        result: the run's counts and settings, as they stand in ``report.json``.
    """
    totals = write_problems(folder / "problems.jsonl", reports)
    summary = {
        **result,
        "rejected_expressions": dict(totals.rejected.most_common()),
        "expressions_per_turn": {str(count): totals.turn_counts[count] for count in sorted(totals.turn_counts)},
        "mask_coverage": {"bins": COVERAGE_BINS, "counts": totals.coverage},
        "worker_seconds": round(totals.seconds, 1),
    }
    (folder / "report.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    html = render_page(
        "augment_report.html.jinja",
        result=result,
        rejected=totals.rejected.most_common(),
        turns=figure_url(_turns(totals.turn_counts)),
        coverage=figure_url(_coverage(totals.coverage)),
        cards=[_card(row) for row in _random_rows(files)],
        settings=json.dumps(result["settings"], indent=2, ensure_ascii=False),
    )
    (folder / "report.html").write_text(html, encoding="utf-8")


def write_problems(path: Path, reports: Iterable[ShardReport]) -> _Totals:
    """Write every sample and expression left out, and why, as JSON Lines; returns what the reports come to."""
    totals = _Totals()
    with path.open("w", encoding="utf-8") as problems:
        for report in reports:
            totals.add(report)
            for problem in report.problems:
                problems.write(json.dumps(asdict(problem), ensure_ascii=False) + "\n")
            for id, turn, text, reason in report.rejected:
                kind = "expression" if text else "reply"
                entry = {"id": id, "kind": kind, "turn": turn, "text": text, "reason": reason}
                problems.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return totals


def _random_rows(files: Sequence[Path]) -> list[dict[str, Any]]:
    """A few rows from anywhere, the same ones each time; only the files that hold them are read."""
    ends = np.cumsum([pq.read_metadata(path).num_rows for path in files])
    chosen = sorted(random.Random(0).sample(range(int(ends[-1])), min(_SHOWN, int(ends[-1]))))
    rows = []
    for index in chosen:
        number = int(np.searchsorted(ends, index, side="right"))
        start = int(ends[number - 1]) if number else 0
        rows += pq.read_table(files[number]).slice(index - start, 1).to_pylist()
    return rows


def _card(raw: dict[str, Any]) -> dict[str, Any]:
    """One row to look at: the picture with its masks, and the turns with the expressions in the masks' colours."""
    row = validate_row(raw)
    expressions = row.key_expressions
    shown = Counter(expression.image for expression in expressions).most_common(1)[0][0]
    # Expressions with the same mask share its colour.
    masks_here = {i: row.masks[i]["bytes"] for i, expression in enumerate(expressions) if expression.image == shown}
    different = list(dict.fromkeys(masks_here.values()))
    colors = {i: f"rgb{PALETTE[different.index(mask) % len(PALETTE)]}" for i, mask in masks_here.items()}
    masks = [decode_mask(mask) for mask in different]
    picture = tint_masks(rgb(open_image(row.images[shown])), masks, side=420)
    marked = [
        {"question": turn.question, "parts": _marked(turn.answer, number, expressions, colors)}
        for number, turn in enumerate(row.turns)
        if any(expression.turn == number for expression in expressions)
    ]
    asked = [
        {"text": expression.text, "color": colors.get(i, _ELSEWHERE)}
        for i, expression in enumerate(expressions)
        if expression.start < 0
    ]
    share = float(np.mean(np.any(masks, axis=0)))
    return {
        "id": row.id,
        "picture": picture_url(picture, "JPEG"),
        "turns": marked[:3],
        "asked": asked,
        "share": f"{share:.0%}",
    }


def _marked(
    answer: str, turn: int, expressions: Sequence[KeyExpression], colors: dict[int, str]
) -> list[dict[str, str | None]]:
    """An answer in parts, those that are key expressions with their colour."""
    spans = sorted(
        (expression.start, expression.end, colors.get(i, _ELSEWHERE))
        for i, expression in enumerate(expressions)
        if expression.turn == turn and expression.start >= 0
    )
    parts: list[dict[str, str | None]] = []
    cursor = 0
    for start, end, color in spans:
        if start < cursor:
            continue
        parts += [{"text": answer[cursor:start], "color": None}, {"text": answer[start:end], "color": color}]
        cursor = end
    return [*parts, {"text": answer[cursor:], "color": None}]


def _turns(counts: Counter[int]) -> Figure:
    most = min(max(counts, default=0), 12)
    heights = [counts[i] for i in range(most)] + [sum(n for count, n in counts.items() if count >= most)]
    labels = [str(i) for i in range(most)] + [f"{most}+" if max(counts, default=0) > most else str(most)]
    figure, axes = _bars(labels, heights)
    axes.set(xlabel="key expressions in a turn", ylabel="turns of the rows kept")
    return figure


def _coverage(counts: Sequence[int]) -> Figure:
    figure, axes = _bars([f"{100 * i // COVERAGE_BINS}" for i in range(COVERAGE_BINS)], counts)
    axes.set(xlabel=f"share of the picture that a mask covers, % (bins of {100 // COVERAGE_BINS})", ylabel="masks")
    return figure


def _bars(labels: Sequence[str], heights: Sequence[int]) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.0, 2.9), layout="constrained")
    axes = figure.subplots()
    axes.bar(labels, heights, color=_BLUE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes
