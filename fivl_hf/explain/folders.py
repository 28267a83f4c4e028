"""Puts the results of ``fivl explain`` and ``fivl knockout`` in one folder together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fivl_hf.files.atomic import write_json
from fivl_hf.files.results import read_settings

__all__ = ["EXPLANATION", "KNOCKOUT", "add_knockout", "explanation_in", "knockout_of", "require_readable"]

EXPLANATION, KNOCKOUT = "explanation.json", "knockout.json"
# What both were measured with.
_SAME = ("weights_fingerprint", "rows_fingerprint", "dtype")
_AGAIN = "run fivl {} again, with --restart"
_PARTS = ("how", "sizes", "before", "sets", "windows")


def knockout_of(folder: Path, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the knock-out in a folder, if it is of the same weights and rows."""
    path = folder / KNOCKOUT
    knockout = read_settings(path, _AGAIN.format("knockout")) if path.exists() else {}
    return {name: knockout[name] for name in _PARTS if name in knockout} if _agree(knockout, run) else None


def require_readable(folder: Path) -> None:
    """Raise ValueError if the explanation, or the knock-out, in a folder is damaged: before hours of work for it."""
    for name, command in ((EXPLANATION, "explain"), (KNOCKOUT, "knockout")):
        if (folder / name).exists():
            read_settings(folder / name, _AGAIN.format(command))


def explanation_in(folder: Path) -> dict[str, Any]:
    """Return the explanation in a folder; empty if there is none."""
    path = folder / EXPLANATION
    return read_settings(path, _AGAIN.format("explain")) if path.exists() else {}


def add_knockout(folder: Path, knockout: Mapping[str, Any]) -> bool:
    """Add a knock-out to the explanation in a folder, if there is one of the same weights and rows.

    Returns:
        Whether there is.
    """
    explanation = explanation_in(folder)
    if not _agree(explanation, knockout):
        return False
    write_json(
        folder / EXPLANATION, {**explanation, "knockout": {name: knockout[name] for name in _PARTS if name in knockout}}
    )
    return True


def _agree(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(a.get(name) is not None and a.get(name) == b.get(name) for name in _SAME)
