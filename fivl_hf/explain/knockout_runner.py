"""``fivl knockout``: curves of what heads do, written to a folder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fivl_hf.explain.effects import AnswerBatches, effect_file, effects, read_answers
from fivl_hf.explain.folders import KNOCKOUT, add_knockout, require_readable
from fivl_hf.explain.head_sets import require_sizes, require_window
from fivl_hf.explain.knockout import How
from fivl_hf.explain.knockout_plan import plan_knockout, scores_on
from fivl_hf.explain.other_images import image_groups
from fivl_hf.explain.report import knockout_figure, layers_label, three_digits, write_heads_report
from fivl_hf.explain.selection import image_halves, rows_by_half
from fivl_hf.files.atomic import write_json
from fivl_hf.files.processes import Processes, SharedFile
from fivl_hf.files.results import read_settings, result_folder

__all__ = ["curve_lines", "write_knockout"]

# What is written, the file that makes it complete first.
_EFFECTS = "knockout.jsonl"
_FILES = (KNOCKOUT, "knockout.png", _EFFECTS)


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
    window: int | None = None,
    max_rows: int | None = 200,
    batch_size: int = 16,
    about: Mapping[str, Any],
    restart: bool = False,
) -> dict[str, Any]:
    """Choose heads on half of the images, knock them out on the other, and write ``knockout.json`` and ``.png``.

    Every set's effect is appended to ``knockout.jsonl`` as it comes; a run of the same ``about`` goes on from there. An
    explanation of the same weights and rows in that folder gets a ``knockout``. Where several processes run it
    (``accelerate launch``), each knocks out its share of the sets.

    Args:
        how: see :func:`fivl_hf.explain.knockout.knock_out`.
        sizes, draws, seed, window: see :func:`fivl_hf.explain.knockout_plan.plan_knockout`.
        max_rows: to choose heads on, and as many to knock them out on; None for all. Each set of heads runs over all of
            the latter.
        batch_size: rows at a time.
        about: what the results were measured with (:func:`fivl_hf.storage.provenance.provenance`).
        restart: replace the results of another run.

    Returns:
        The content of ``knockout.json``.

    Raises:
        ValueError: no row has evidence, all are about one image, or what ``plan_knockout`` raises.
        OSError: the folder is in use or cannot be written to.
    """
    text = model.config.get_text_config()
    # Before the work; of a model whose layers do not all see the image, the plan says more.
    if sizes:
        require_sizes(sizes, text.num_hidden_layers * text.num_attention_heads)
    if window:
        require_window(window, text.num_hidden_layers)
    choosing, measuring = _halves(rows, seed)
    run = {**about, "dtype": str(model.dtype), "how": how, "seed": seed, "max_rows": max_rows}
    processes = Processes.of_this_run()
    with processes.first_enters(_run_in(output, run, restart=restart)):
        plan = processes.from_first(
            lambda: plan_knockout(
                scores_on(model, processor, _Subset(rows, choosing[:max_rows]), batch_size),
                sizes=sizes,
                draws=draws,
                seed=seed,
                window=window,
            )
        )
        shared = SharedFile(output / _EFFECTS)
        known = dict(effect_file(shared.path))
        processes.wait()  # the first process adds to what the others read
        batches = AnswerBatches(model, processor, _Subset(rows, measuring[:max_rows]), batch_size)
        before = read_answers(model, batches)
        pending = [(name, heads) for name, heads in plan.sets.items() if name not in known]
        file = effect_file(shared.of(processes))
        share = dict(pending[processes.number :: processes.count])
        for effect in effects(model, batches, share, how, before=before):
            file.append([effect])
        processes.wait()
        if processes.first:
            shared.take_parts(partial(_take_effects, shared.path))
            result = {**run, **plan.curves(dict(effect_file(shared.path)), before)}
            knockout_figure(result).savefig(output / "knockout.png", dpi=150)
            write_json(output / KNOCKOUT, result)
            if add_knockout(output, result):
                write_heads_report(output)
    return read_settings(output / KNOCKOUT)


def _halves(rows: Sequence[Mapping[str, Any]], seed: int) -> tuple[list[int], list[int]]:
    """Return the numbers of the rows with evidence that heads are chosen on, and of those that they are measured on."""
    groups = image_groups(rows)
    with_evidence = [number for number, row in enumerate(rows) if groups[number] and row.get("masks")]
    if not with_evidence:
        raise ValueError("no row has key expressions with masks, by which heads are chosen")
    return rows_by_half(with_evidence, groups, image_halves((groups[number] for number in with_evidence), seed))


@contextmanager
def _run_in(output: Path, run: Mapping[str, Any], *, restart: bool) -> Iterator[None]:
    """Check that the folder is this run's, and take in what an interrupted run left."""
    with result_folder(output, run, kind="knockout", files=_FILES, restart=restart):
        require_readable(output)
        shared = SharedFile(output / _EFFECTS)
        shared.take_parts(partial(_take_effects, shared.path), drop=restart)
        yield


def _take_effects(path: Path, part: Path) -> None:
    known = dict(effect_file(path))
    effect_file(path).append((name, effect) for name, effect in effect_file(part) if name not in known)


class _Subset(Sequence[Mapping[str, Any]]):
    """Some of the rows, read when they are asked for."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], numbers: Sequence[int]) -> None:
        self._rows, self._numbers = rows, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        return self._rows[self._numbers[place]]


def curve_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the curves as text."""
    lines = [
        f"{'heads':<16} {'k':>3}  expressions  other tokens  difference  text only  random sets' difference      p  "
        "accuracy  reliance",
        f"{'none':<16} {0:>3}  {'':>81}  {result['before']['accuracy']:>8.3f}  "
        f"{three_digits(result['before']['expression_reliance']):>8}",
    ]
    for name, found in result["sets"].items():
        for effect in found["effects"]:
            random = sorted(effect["random"]["specific"])
            between = f"{len(random)} in [{random[0]:.3f}, {random[-1]:.3f}]" if random else "–"
            lines.append(
                f"{name:<16} {effect['k']:>3}  {_falls(effect)}  {between:>23}  {effect['p']:.3f}  "
                f"{effect['accuracy']:>8.3f}  {three_digits(effect['expression_reliance']):>8}"
            )
    for effect in result.get("windows", ()):
        lines.append(
            f"{layers_label(*effect['layers']):<16} {'all':>3}  {_falls(effect)}  {'':>30}  "
            f"{effect['accuracy']:>8.3f}  {three_digits(effect['expression_reliance']):>8}"
        )
    return lines


def _falls(effect: Mapping[str, Any]) -> str:
    return (
        f"{effect['expression']:>11.3f}  {effect['other']:>12.3f}  {effect['specific']:>10.3f}  "
        f"{effect['text_only']:>9.3f}"
    )
