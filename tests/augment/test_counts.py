from fivl_hf.augment import counts as headings
from fivl_hf.augment.counts import COVERAGE, COVERAGE_BINS, PER_TURN, TARGETS, row_counts


def expression(turn, text, *keywords, start=0, boxes=1):
    return {"turn": turn, "text": text, "keywords": list(keywords), "start": start, "boxes": [[0, 0, 1, 1]] * boxes}


def test_a_conversations_evidence_is_counted():
    messages = [{"role": role, "content": "x"} for role in ("user", "assistant") * 3]
    expressions = [
        expression(0, "red car", "car", boxes=2),
        expression(0, "beautiful", boxes=0),
        expression(2, "Dog", "Dog", start=-1),
    ]
    row = {"messages": messages, "key_expressions": expressions, "source": "mix/coco"}
    counts = row_counts(row, [0.04, 0.2, 1.0])
    assert counts[PER_TURN] == {"2": 1, "0": 1, "1": 1}
    assert counts[COVERAGE] == {"0": 1, "4": 1, str(COVERAGE_BINS - 1): 1}
    assert counts[TARGETS] == {"usable": 1, "no noun": 1, "mask over 30% of the image": 1} | {
        "rows without a usable expression": 0
    }
    assert counts[headings.PER_ROW] == {"3": 1}
    assert counts[headings.BOXES] == {"0": 1, "1": 1, "2": 1}
    assert counts[headings.WORDS] == {"car": 1, "dog": 1}
    kinds = counts[headings.KINDS]
    assert (kinds["common noun"], kinds["no noun"], kinds["with an adjective"], kinds["from the question"]) == (
        2,
        1,
        2,
        1,
    )
    by_source = (headings.ROWS, headings.ROWS_WITH_EVIDENCE, headings.TURNS, headings.TURNS_WITH_EVIDENCE)
    assert [counts[each] for each in by_source] == [{"mix/coco": n} for n in (1, 1, 3, 2)]


def test_a_benchmark_question_is_one_turn_and_no_target():
    row = {"question": "What?", "key_expressions": [expression(0, "car", "car")]}
    counts = row_counts(row, [0.5])
    assert (counts[PER_TURN], counts[COVERAGE]) == ({"1": 1}, {"10": 1})
    assert TARGETS not in counts
    none = row_counts({**row, "key_expressions": []}, [])
    assert (none[headings.ROWS], none[headings.ROWS_WITH_EVIDENCE]) == ({"": 1}, {"": 0})
