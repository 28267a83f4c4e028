from collections import Counter

import pytest

from fivl_hf.supervision import LARGEST_MASK, exclusion_reason, target_counts, usable_sentence


@pytest.mark.parametrize(
    ("keywords", "coverage", "reason"),
    [
        (("car",), 0.1, ""),
        (("car",), LARGEST_MASK, ""),
        (("car",), 0.31, "mask over 30% of the image"),
        ((), 0.1, "no noun"),
        ((), 0.9, "no noun"),
    ],
)
def test_reasons_by_hand(keywords, coverage, reason):
    assert exclusion_reason(keywords, coverage) == reason


def test_rows_add_up_to_a_sentence():
    rows = [["", "", "no noun"], ["no noun"], ["mask over 30% of the image"], [""]]
    total = sum(map(target_counts, rows), Counter())
    assert usable_sentence(total) == (
        "3 of 6 key expressions can supervise patches "
        "(left out: 2 × no noun, 1 × mask over 30% of the image); 2 rows have none that can"
    )
    assert usable_sentence(target_counts([""])) == "1 of 1 key expressions can supervise patches"
    assert usable_sentence({}) == ""
    assert usable_sentence(target_counts(["", "no noun"]) + target_counts(["no noun"])).endswith(
        "1 row has none that can"
    )
