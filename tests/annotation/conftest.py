from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from annotated import answer, study_of_items
from datasets import Dataset
from drawn_rows import expression, part_mask, row

from fivl_hf.annotation.items import draw_items
from fivl_hf.annotation.ratings import Ratings, collect_ratings
from fivl_hf.schema import FEATURES
from fivl_hf.storage import with_encoded_images


def photo_rows(count: int = 4) -> Dataset:
    """Rows r0, r1, ... of two expressions each, whose masks cover a quarter and three quarters; images in pairs."""
    made = [row([expression("car", 2), expression("dog", 12)], [part_mask(2), part_mask(6)]) for _ in range(count)]
    rows = [{**each, "id": f"r{i}", "source": "ab"[i % 2]} for i, each in enumerate(made)]
    return with_encoded_images(Dataset.from_list(rows, features=FEATURES))


@pytest.fixture
def few_rows() -> Dataset:
    return photo_rows()


@pytest.fixture
def rate(tmp_path: Path, few_rows: Dataset) -> Any:
    """Ratings of answers: item key -> annotator -> letters; further entries as (annotator, key, field, value)."""

    def rated(said: Mapping[str, Mapping[str, str]], more: Iterable[tuple[str, str, str, Any]] = ()) -> Ratings:
        names = sorted({name for by_name in said.values() for name in by_name})
        items = sorted(draw_items(few_rows, sample=100), key=lambda item: item.key)
        study = study_of_items(tmp_path / "study", few_rows, items, names)
        for key, by_name in said.items():
            for name, letters in by_name.items():
                answer(study, name, key, letters)
        for name, key, field, value in more:
            study.record(name, key, field, value)
        return collect_ratings(few_rows, [tmp_path / "study"])

    return rated
