"""The cleaned dataset: rows without what people reject, with what they fixed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fivl_hf.annotation.fixes import fixed_expression
from fivl_hf.annotation.ratings import Rated, Ratings
from fivl_hf.annotation.records import QUESTIONS
from fivl_hf.schema import FiVLRow, KeyExpression, RowError, validate_row
from fivl_hf.storage.cards import read_card

__all__ = ["Filter", "Keep", "card_front", "filtered_description"]

Keep = Literal["good", "not-bad"]
# What a card says that holds for the filtered rows, too.
_INHERITED = ("license", "license_name", "license_link", "language", "task_categories")
_RULES = {
    "good": "Kept are key expressions to whose three questions most annotators answered yes, in rows that have one.",
    "not-bad": "Left out are rows that people call bad examples, and key expressions whose mask or words they reject.",
}


@dataclass
class Filter:
    """Filters a dataset by annotations, and counts what becomes of it.

    Args:
        keep: "good": expressions to whose three questions most annotators answered yes, in rows with at least one.
            "not-bad": also what nobody annotated or people are undecided about; a row goes if it is called a bad
            example, an expression if its mask or its words are rejected.
        fixes: whether to apply what annotators fixed; without, an expression with a fix stays as it is.

    Attributes:
        counts: of rows and expressions, kept, dropped and fixed, by reason.
    """

    ratings: Ratings
    keep: Keep = "good"
    fixes: bool = True
    counts: Counter[str] = field(default_factory=Counter)

    def rows(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the rows that stay, with the expressions that stay; rows that do not fit the schema go.

        Raises:
            ValueError: a fix that cannot be applied.
        """
        of_rows: dict[int, dict[int, Rated]] = {}
        for each in self.ratings.rated:
            of_rows.setdefault(each.row, {})[each.item.place] = each
        for number, row in enumerate(rows):
            if kept := self._row(row, of_rows.get(number, {})):
                yield kept

    def _row(self, row: dict[str, Any], rated: dict[int, Rated]) -> dict[str, Any] | None:
        self.counts["rows read"] += 1
        self.counts["expressions read"] += len(row["key_expressions"])
        if any(each.verdict("example") is False for each in rated.values()):
            self.counts["rows dropped: a bad example"] += 1
            self.counts["expressions dropped: of a bad example"] += len(row["key_expressions"])
            return None
        try:
            checked = validate_row(row)
        except RowError:
            self.counts["rows dropped: do not fit the schema"] += 1
            self.counts["expressions dropped: of a row that does not fit the schema"] += len(row["key_expressions"])
            return None
        expressions, masks = [], []
        for place in range(len(checked.key_expressions)):
            of_place = rated.get(place)
            fixes = _fixes(of_place) if of_place and self.fixes else {}
            if reason := self._rejected(of_place, fixes):
                self.counts[f"expressions dropped: {reason}"] += 1
                continue
            expression, mask = _fixed(checked, place, fixes)
            if fixes:
                self.counts["expressions fixed"] += 1
            expressions.append(expression.to_dict())
            masks.append(mask)
        if self.keep == "good" and not expressions:
            self.counts["rows dropped: no good expression"] += 1
            return None
        self.counts["rows kept"] += 1
        self.counts["expressions kept"] += len(expressions)
        return {**row, "key_expressions": expressions, "masks": masks}

    def _rejected(self, rated: Rated | None, fixes: Mapping[str, Any]) -> str:
        """Return why an expression goes; "" if it stays."""
        if rated is None:
            return "not annotated" if self.keep == "good" else ""
        drops = sum(each.drop for each in rated.annotations.values())
        if 2 * drops > len(rated.annotations):
            return "taken out by annotators"
        if drops:
            self.counts["expressions that half or fewer of their annotators want out"] += 1
        # What was wrong, and was fixed, is not wrong any more.
        fixed = {"mask": "mask_png" in fixes, "expression": "text" in fixes}
        for question, reason in (("mask", "mask is wrong"), ("expression", "not significant")):
            if rated.verdict(question) is False and not fixed[question]:
                return reason
        verdicts = [rated.verdict(question) or fixed.get(question, False) for question in QUESTIONS]
        return "" if self.keep == "not-bad" or all(verdicts) else "undecided"


def _fixes(rated: Rated) -> dict[str, Any]:
    """Return the fixes to apply, by field.

    Of several annotators' fixes of one field, that of the first by name is taken. A new mask or new words are not
    applied if most annotators call the old ones right and fewer than half made such a fix.
    """
    fixes = {}
    for name, question in (("mask_png", "mask"), ("text", "expression"), ("boxes", None)):
        made = [getattr(each, name) for _, each in sorted(rated.annotations.items())]
        made = [each for each in made if each is not None]
        is_right = question is not None and rated.verdict(question) is True
        if made and not (is_right and 2 * len(made) < len(rated.annotations)):
            fixes[name] = made[0]
    return fixes


def _fixed(row: FiVLRow, place: int, fixes: Mapping[str, Any]) -> tuple[KeyExpression, Any]:
    """Apply fixes; raises ValueError naming the row."""
    try:
        return fixed_expression(row, place, **fixes)
    except ValueError as error:
        text = row.key_expressions[place].text
        raise ValueError(
            f"row {row.id!r}, the fix of {text!r} cannot be applied: {error}; --no-fixes leaves masks, boxes and words"
        ) from error


def filtered_description(name: str, filtering: Filter) -> str:
    """Return what the card of a filtered dataset says, once its rows are written.

    Args:
        name: of the dataset that was filtered.
    """
    ratings = filtering.ratings
    people = len(ratings.annotators)
    asked = "; ".join(question[0].lower() + question[1:].rstrip("?") for question in QUESTIONS.values())
    lines = [f"| {name} | {number:,} |" for name, number in sorted(filtering.counts.items(), key=_order)]
    fixes = (
        " Masks, boxes and words that they fixed are the fixed ones." if filtering.counts["expressions fixed"] else ""
    )
    return "\n".join(
        [
            f"Made of `{name}` by `fivl filter --keep {filtering.keep}`: {people} "
            f"{'person' if people == 1 else 'people'} annotated {len(ratings.rated):,} key expressions ({asked}). "
            f"{_RULES[filtering.keep]}{fixes}",
            "",
            "| | |",
            "|---|---|",
            *lines,
        ]
    )


def _order(count: tuple[str, int]) -> tuple[bool, bool, int]:
    """Sort rows before expressions, what was read first, then the most."""
    name, number = count
    return not name.startswith("rows"), not name.endswith("read"), -number


def card_front(dataset: str | Path) -> dict[str, Any] | None:
    """Return the front matter of a dataset's card that holds for a part of it, too.

    Returns:
        None if the dataset is not a folder, or its card cannot be read.
    """
    card = Path(dataset) / "README.md"
    try:
        front, _ = read_card(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return {key: front[key] for key in _INHERITED if key in front}
