from fivl_hf.augment.counts import COVERAGE, COVERAGE_BINS, PER_TURN, TARGETS, row_counts


def expression(turn, *keywords):
    return {"turn": turn, "keywords": list(keywords)}


def test_a_conversations_evidence_is_counted():
    messages = [{"role": role, "content": "x"} for role in ("user", "assistant") * 3]
    row = {"messages": messages, "key_expressions": [expression(0, "car"), expression(0), expression(2, "dog")]}
    counts = row_counts(row, [0.04, 0.2, 1.0])
    assert counts[PER_TURN] == {"2": 1, "0": 1, "1": 1}
    assert counts[COVERAGE] == {"0": 1, "4": 1, str(COVERAGE_BINS - 1): 1}
    assert counts[TARGETS] == {"usable": 1, "no noun": 1, "mask over 30% of the image": 1} | {
        "rows without a usable expression": 0
    }


def test_a_benchmark_question_is_one_turn_and_no_target():
    counts = row_counts({"question": "What?", "key_expressions": [expression(0, "car")]}, [0.5])
    assert counts == {PER_TURN: {"1": 1}, COVERAGE: {"10": 1}}
