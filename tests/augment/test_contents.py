from collections import Counter

from fivl_hf.augment.contents import DatasetContents
from fivl_hf.augment.counts import row_counts


def row(source, expressions):
    messages = [{"role": role, "content": "x"} for role in ("user", "assistant") * 2]
    listed = [
        {"turn": 0, "text": text, "keywords": [word], "start": 0, "boxes": [[0, 0, 1, 1]]} for text, word in expressions
    ]
    return {"messages": messages, "key_expressions": listed, "source": source}


def contents(rows, coverage):
    total = {}
    for each in rows:
        for heading, counts in row_counts(each, coverage[: len(each["key_expressions"])]).items():
            total.setdefault(heading, Counter()).update(counts)
    return DatasetContents(total)


def test_a_dataset_is_summed_up_by_source():
    rows = [
        row("coco", [("red car", "car"), ("tennis racket", "racket")]),
        row("coco", []),
        row("gqa", [("car", "car")]),
    ]
    found = contents(rows, [0.1, 0.5])
    assert [(s.name, s.rows, s.rows_with_evidence, s.turns, s.turns_with_evidence) for s in found.sources] == [
        ("coco", 2, 1, 4, 1),
        ("gqa", 1, 1, 2, 1),
    ]
    assert vars(found.total) == {
        "name": "all",
        "rows": 3,
        "rows_with_evidence": 2,
        "turns": 6,
        "turns_with_evidence": 2,
        "expressions": 3,
    }
    assert dict(found.kinds) == {"common noun": 3, "with an adjective": 1, "compound": 1}
    assert found.top_words == [("car", 2), ("racket", 1)]
    assert found.per_row == {0: 1, 1: 1, 2: 1}
    assert "67% of the masks cover less than 20% of the image" in found.mask_sentence()
    assert "33% cover 30% or more" in found.mask_sentence()


def test_the_card_has_a_line_for_each_source():
    text = contents([row("coco", [("red car", "car")]), row("gqa", [("car", "car")])], [0.1]).markdown()
    assert (
        "| coco | 1 | 100% | 2 | 50% | 1 |\n| gqa | 1 | 100% | 2 | 50% | 1 |\n| all | 2 | 100% | 4 | 50% | 2 |" in text
    )
    assert "common noun 100%, with an adjective 50%" in text
    assert "Most frequent: car (2)." in text
    assert "0.5 per turn, 1 per row" in text
    assert "| masks | 0% | 0% | 100% | 0% | 0% | 0% |" in text
    assert contents([row("coco", [])], []).markdown() == ""


def test_many_sources_are_put_together():
    found = contents([row(f"s{i:02d}", []) for i in range(30)], [])
    assert len(found.sources) == 12
    assert (found.sources[-1].name, found.sources[-1].rows) == ("19 others", 19)
    assert sum(each.turns for each in found.sources) == found.total.turns == 60
