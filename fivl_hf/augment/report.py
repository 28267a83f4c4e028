"""The report on a run: what was kept and what not, why, and a sheet of samples to look at."""

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fivl_hf.augment.contents import RELIABLE, DatasetContents
from fivl_hf.augment.counts import COVERAGE_BINS
from fivl_hf.jobs.shards import ShardReport
from fivl_hf.show.pages import figure_url, render_page
from fivl_hf.show.row_pages import row_card
from fivl_hf.show.row_views import draw_row, view_row
from fivl_hf.supervision import LARGEST_MASK

__all__ = ["draw_rows", "write_problems", "write_report"]

_SHOWN = 24
_NAMED = 12
# Larger numbers are drawn as one bar.
_MOST = 12
_BLUE, _GREEN, _RED = "#0072b2", "#009e73", "#d55e00"


@dataclass
class _Totals:
    """The reports of all shards, added up."""

    rejected: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, report: ShardReport) -> None:
        for entry in report.left_out:
            id, text = entry["id"], entry["text"]
            reason = entry["reason"] if text else f"whole answer: {entry['reason']}"
            self.rejected[reason] += 1
            self._note(reason, f"{text} ({id})" if text else id)
        for problem in report.problems:
            self._note(problem.reason, problem.id)
        self.seconds += report.seconds

    def _note(self, reason: str, example: str) -> None:
        named = self.examples.setdefault(reason, [])
        if len(named) < _NAMED:
            named.append(example)


def write_report(
    folder: Path,
    reports: Iterable[ShardReport],
    files: Sequence[Path],
    contents: DatasetContents,
    result: dict[str, Any],
    usable: str,
) -> None:
    """Write ``report.json``, ``report.html`` and ``problems.jsonl`` (every sample and expression left out, and why).

    Args:
        files: the shards' rows, of which some are drawn.
        contents: of the whole dataset.
        result: the run's counts and settings, as they stand in ``report.json``.
        usable: how many expressions can supervise patches, in a sentence.
    """
    totals = write_problems(folder / "problems.jsonl", reports)
    summary = {
        **result,
        "rejected_expressions": dict(totals.rejected.most_common()),
        **contents.to_dict(),
        "worker_seconds": round(totals.seconds, 1),
    }
    (folder / "report.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    views = [view_row(row) for row in _random_rows(files, _SHOWN)]
    html = render_page(
        "augment_report.html.jinja",
        result=result,
        usable=usable,
        targets=result["targets"],
        dropped=[
            (reason, count, prefix)
            for prefix, counts in (("failed: ", result["tally"]["failed"]), ("", result["tally"]["dropped"]))
            for reason, count in counts.items()
        ],
        rejected=[(reason, count, "") for reason, count in totals.rejected.most_common()],
        contents=contents,
        charts=[
            (figure_url(_numbers(contents.per_turn, "turn")), "Histogram of key expressions per turn"),
            (figure_url(_numbers(contents.per_row, "row")), "Histogram of key expressions per row"),
            (figure_url(_coverage(contents.coverage)), "Histogram of mask coverage"),
            (figure_url(_numbers(contents.boxes, "key expression", "boxes")), "Histogram of boxes per key expression"),
        ],
        cards=[row_card(view) for view in views],
        examples=totals.examples,
        settings=_facts(result["settings"]),
        spent=_spent(result["spent"]),
    )
    (folder / "report.html").write_text(html, encoding="utf-8")


def _facts(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return settings as lines of a table."""
    lines: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            lines += _facts(value, f"{name}: ")
        elif key == "files":
            lines += [(name if number == 0 else "", _file(*each)) for number, each in enumerate(value)]
        elif value not in (None, "", [], ()):
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            lines.append((name, "yes" if value is True else "no" if value is False else shown))
    return lines


def _file(name: str, size: int, written: int) -> str:
    """Return a file's name, size and nanoseconds of its last change, in words."""
    day = datetime.fromtimestamp(written / 1e9, tz=UTC).date()
    amount = f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,} bytes"
    return f"{name} ({amount}, of {day})"


def _spent(spent: Mapping[str, Any] | None) -> str:
    if spent is None:
        return ""
    told = f"in this run; {spent['cached']:,} answers came from the cache; "
    told += f"{spent['prompt_tokens'] + spent['completion_tokens']:,} tokens"
    if spent["lost"]:
        told += f"; {spent['lost']:,} requests were under way when a run was killed and may have been paid twice"
    return told


def write_problems(path: Path, reports: Iterable[ShardReport]) -> _Totals:
    """Write every sample and expression left out, and why, as JSON Lines; returns what the reports come to."""
    totals = _Totals()
    with path.open("w", encoding="utf-8") as problems:
        for report in reports:
            totals.add(report)
            for problem in report.problems:
                problems.write(json.dumps(asdict(problem), ensure_ascii=False) + "\n")
            for entry in report.left_out:
                problems.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return totals


def _random_rows(files: Sequence[Path], count: int) -> list[dict[str, Any]]:
    """Return a few rows from anywhere, the same ones each time; only the files that hold them are read."""
    ends = np.cumsum([pq.read_metadata(path).num_rows for path in files])
    chosen = sorted(random.Random(0).sample(range(int(ends[-1])), min(count, int(ends[-1]))))
    rows = []
    for index in chosen:
        number = int(np.searchsorted(ends, index, side="right"))
        start = int(ends[number - 1]) if number else 0
        rows += pq.read_table(files[number]).slice(index - start, 1).to_pylist()
    return rows


def draw_rows(folder: Path, files: Sequence[Path], count: int) -> list[tuple[str, str]]:
    """Draw a few rows into ``pictures/``; returns path and caption of each."""
    drawn = []
    for number, row in enumerate(_random_rows(files, count) if count else ()):
        path = folder / "pictures" / f"{number:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        draw_row(view_row(row, boxes=True)).save(path, quality=88)
        drawn.append((f"pictures/{path.name}", "A row: its evidence and its conversation"))
    return drawn


def _numbers(counts: Counter[int], owner: str, counted: str = "key expressions") -> Figure:
    """Draw how many turns, rows or expressions have 0, 1, 2, ... of what is counted."""
    most = min(max(counts, default=0), _MOST)
    heights = [counts[i] for i in range(most)] + [sum(n for count, n in counts.items() if count >= most)]
    labels = [str(i) for i in range(most)] + [f"{most}+" if max(counts, default=0) > most else str(most)]
    figure, axes = _bars(labels, heights)
    axes.set(xlabel=f"{counted} of a {owner}", ylabel=f"{owner}s")
    return figure


def _coverage(counts: Sequence[int]) -> Figure:
    figure, axes = _bars([f"{100 * i // COVERAGE_BINS}" for i in range(COVERAGE_BINS)], counts)
    axes.set_xticks(range(0, COVERAGE_BINS, 2))
    axes.set(xlabel=f"share of the image that a mask covers, % (bins of {100 // COVERAGE_BINS})", ylabel="masks")
    for share, label, color in ((RELIABLE, "reliable below", _GREEN), (LARGEST_MASK, "limit in training", _RED)):
        axes.axvline(share * COVERAGE_BINS - 0.5, color=color, linestyle="--", linewidth=1)
        axes.text(
            share * COVERAGE_BINS - 0.7,
            axes.get_ylim()[1],
            label,
            color=color,
            fontsize=7,
            ha="right",
            va="top",
            rotation=90,
        )
    return figure


def _bars(labels: Sequence[str], heights: Sequence[int]) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4.4, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.bar(labels, heights, color=_BLUE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes
