import json

import pytest

from fivl_hf.annotation.agreement import agreement_summary
from fivl_hf.annotation.items import Verdict, make_item
from fivl_hf.annotation.ratings import collect_ratings


def test_shares_by_hand(rate):
    # Masks of a quarter: yes, yes, no; of three quarters: no, undecided.
    summary = agreement_summary(
        rate(
            {
                "r0/0": {"anna": "yyy"},
                "r1/0": {"anna": "yyy"},
                "r2/0": {"anna": "nyy"},
                "r0/1": {"anna": "nyy"},
                "r1/1": {"anna": "uyy"},
            }
        )
    )
    mask = summary["shares"]["mask"]
    assert (mask["all"]["yes"], mask["all"]["n"], mask["all"]["undecided"]) == (2, 4, 1)
    assert mask["all"]["share"] == 0.5
    assert mask["by_mask_size"]["20% to 50%"]["share"] == pytest.approx(2 / 3)
    assert mask["by_mask_size"]["50% to 100%"] == {
        **mask["by_mask_size"]["50% to 100%"],
        "share": 0,
        "n": 1,
        "undecided": 1,
    }
    assert mask["by_mask_size"]["0% to 5%"]["share"] is None
    assert mask["by_source"]["a"]["n"] == 3
    assert mask["of_dataset"] is None
    assert summary["annotators"] == {"anna": 5}
    assert summary["agreement"]["mask"] == {
        "expressions": 0,
        "fleiss_kappa": None,
        "krippendorff_alpha": None,
        "pairs": [],
    }


def test_agreement_of_two_by_hand(rate):
    letters = [("y", "y"), ("y", "n"), ("n", "n"), ("n", "n")]
    summary = agreement_summary(
        rate({f"r{i}/0": {"anna": one * 3, "ben": other * 3} for i, (one, other) in enumerate(letters)})
    )
    (pair,) = summary["agreement"]["mask"]["pairs"]
    assert pair["annotators"] == ["anna", "ben"]
    assert pair["confusion"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    # 3 of 4 agree; by chance 2/4 × 1/4 + 2/4 × 3/4 = 1/2.
    assert pair["agree"] == 0.75
    assert pair["cohen_kappa"] == pytest.approx(0.5)
    # 3 of 8 answers are yes: by chance 9/64 + 25/64; (3/4 - 34/64) / (30/64).
    assert summary["agreement"]["mask"]["fleiss_kappa"] == pytest.approx(14 / 30)
    # Krippendorff: 1 - observed / expected disagreement = 1 - (1/4) / (2 × 3 × 5 / (8 × 7)).
    assert summary["agreement"]["mask"]["krippendorff_alpha"] == pytest.approx(1 - (1 / 4) / (30 / 56))


def test_the_judge_beside_people(rate):
    ratings = rate({"r0/0": {"a": "yyy"}, "r1/0": {"a": "nny"}, "r2/0": {"a": "yyy"}, "r3/0": {"a": "uyy"}})
    verdicts = {
        ("r0", 0, "car"): Verdict(important=True, seg1=True, seg2=True),
        ("r1", 0, "car"): Verdict(important=True, seg1=False, seg2=None),
        ("r2", 0, "car"): Verdict(important=None, seg1=False, seg2=False),
        ("r3", 0, "car"): Verdict(important=False, seg1=True, seg2=False),
    }
    judge = agreement_summary(ratings, verdicts)["judge"]
    assert judge["important"]["confusion"] == [[1, 1], [1, 0]]
    assert judge["seg1"]["confusion"] == [[1, 1], [0, 1]]
    assert judge["not seg2"]["confusion"] == [[1, 1], [0, 0]]  # seg2 yes is bad
    assert judge["seg1"]["agree"] == pytest.approx(2 / 3)


def test_nobody_looked_for_missing_expressions(rate):
    extractor = agreement_summary(rate({"r0/0": {"a": "yyy"}}))["extractor"]
    assert (extractor["precision"]["share"], extractor["turns"], extractor["recall"]) == (1, 0, None)


def test_precision_and_recall_of_the_extractor(rate):
    said = {"r0/0": {"a": "yyy", "b": "yyy"}, "r1/0": {"a": "yny"}}
    more = [("a", "r0/0", "missed", ["A"]), ("b", "r0/0", "missed", ["a", "and"])]
    extractor = agreement_summary(rate(said, more))["extractor"]
    assert extractor["precision"]["share"] == 0.5
    # The turn of r0 has two expressions, both taken as significant; two more are missed. In r1 nobody looked.
    assert (extractor["turns"], extractor["missed"], extractor["recall"]) == (1, 2, 0.5)


def test_looking_and_finding_none_missing_counts(rate):
    said = {"r0/0": {"a": "yyy"}, "r1/0": {"a": "yyy"}, "r2/0": {"a": "yyy"}}
    more = [("a", "r0/0", "missed", ["and"]), ("a", "r1/0", "missed", []), ("a", "r2/0", "missed", None)]
    extractor = agreement_summary(rate(said, more))["extractor"]
    # Two turns of two expressions each, one missed.
    assert (extractor["turns"], extractor["missed"], extractor["recall"]) == (2, 1, 0.8)


def test_a_stratified_sample_is_weighted_by_how_common_its_strata_are(rate, tmp_path, few_rows):
    rate({"r0/0": {"a": "yyy"}, "r0/1": {"a": "nyy"}})
    file = tmp_path / "study" / "items.json"
    items = [make_item(few_rows[0], place).to_dict() for place in (0, 1)]
    file.write_text(json.dumps([{**items[0], "weight": 3.0}, items[1]]))
    (file.parent / "annotation.run.json").write_text('{"strategy": "stratified"}')
    summary = agreement_summary(collect_ratings(few_rows, [file.parent]))
    assert summary["strategies"] == ["stratified"]
    assert summary["shares"]["mask"]["all"]["share"] == 0.5
    assert summary["shares"]["mask"]["of_dataset"]["share"] == 0.75
    # A gold item, or one of another study, was not drawn: it stands for none.
    file.write_text(json.dumps([{**items[0], "weight": 3.0}, {**items[1], "gold": True}]))
    assert agreement_summary(collect_ratings(few_rows, [file.parent]))["shares"]["mask"]["of_dataset"]["share"] == 1


def test_gold_items_show_how_often_each_is_right(rate, tmp_path, few_rows):
    said = {"r0/0": {"anna": "yyy", "ben": "ynn"}, "r1/0": {"anna": "yyy"}}
    rate(said)
    study = tmp_path / "study"
    (study / "gold.jsonl").write_bytes((study / "annotators" / "anna.jsonl").read_bytes())
    gold = agreement_summary(collect_ratings(few_rows, [study]))["gold"]
    assert gold["anna"]["mask"] == {"right": 2, "n": 2}
    assert gold["ben"] == {
        "mask": {"right": 1, "n": 1},
        "expression": {"right": 0, "n": 1},
        "example": {"right": 0, "n": 1},
    }
