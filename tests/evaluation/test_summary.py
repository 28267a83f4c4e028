import numpy as np
import pytest

from fivl_hf.evaluation.summary import rescored, summarize
from fivl_hf.evaluation.table import Answer


def answers(id, by_condition, references=("yes",), category="", evidence=True, picture=""):
    return [
        Answer(id, condition, "q", references, text, float(text in references), category, evidence, picture=picture)
        for condition, text in by_condition.items()
    ]


TABLE = [
    # Grounded and right: kept is as original, removed is not.
    *answers("1", {"original": "yes", "removed": "no", "random": "yes", "kept": "yes", "text-only": "no"}),
    # Ungrounded and right.
    *answers("2", {"original": "yes", "removed": "yes", "random": "yes", "kept": "yes", "text-only": "yes"}),
    # Grounded and wrong.
    *answers("3", {"original": "no", "removed": "yes", "random": "no", "kept": "no", "text-only": "no"}),
    *answers("4", {"original": "yes", "text-only": "no"}, evidence=False),
]


def test_every_condition_by_hand():
    summary = summarize(TABLE, resamples=100)
    assert (summary["visual_reliance_score"], summary["accuracy"], summary["n"]) == (0.0, pytest.approx(2 / 3), 3)
    assert summary["random_reliance_score"] == 0.0
    assert summary["over_random"]["value"] == 0.0
    assert summary["sufficiency"] == {"value": 1.0, "confidence_interval": [1.0, 1.0]}
    grounding = summary["grounding"]
    assert grounding.pop("n") == 3
    assert {name: found["n"] for name, found in grounding.items()} == {
        "grounded, right": 1,
        "grounded, wrong": 1,
        "ungrounded, right": 1,
        "ungrounded, wrong": 0,
    }
    assert grounding["grounded, right"]["value"] == pytest.approx(1 / 3)
    # Of the 27 resamples of three, sorted, the highest share is 1 and the next 2/3; 97.5% is at place 25.35 of 0 to 26.
    assert grounding["grounded, right"]["confidence_interval"] == pytest.approx([0, 2 / 3 + 0.35 / 3])
    # Without the image one of three is right: (2/3 - 2/3) / (2/3 - 1/3).
    floors = summary["floor_normalized_reliance"]
    assert floors["text-only"]["value"] == 0.0
    assert floors["blank"]["reason"] == "the condition 'blank' was not asked"
    assert summary["conditions"]["text-only"]["n"] == 4
    assert summary["conditions"]["text-only"]["accuracy"] == 0.25
    assert summary["conditions"]["removed"]["accuracy"] == pytest.approx(2 / 3)
    assert (summary["questions"], summary["accuracy_all_questions"]) == (4, 0.75)
    # Of four questions, one without evidence stays right.
    assert (summary["all_questions"]["accuracy"], summary["all_questions"]["n"]) == (0.75, 4)
    assert (summary["fill"], summary["scope"]) == ("black", "evidence")
    assert summary["bootstrap"] == {"seed": 0, "resamples": 100}
    assert summary["by_reference"]["yes"]["n"] == 3
    # Groups have everything that the whole has, over all questions, too.
    group = summary["by_reference"]["yes"]
    for name in ("sufficiency", "over_random", "floor_normalized_reliance", "random_reliance_score"):
        assert group[name] == summary[name]
    assert set(summary["all_questions"]["by_reference"]) == {"yes"}
    assert summary["all_questions"]["by_category"].keys() >= summary["by_category"].keys()


def test_scores_can_be_made_again_by_another_scorer():
    table = answers("1", {"original": "Yes, it is.", "removed": "who knows"}, category="yes/random")
    assert summarize(table)["accuracy"] == 0.0
    again = list(rescored(table, "pope-vlmevalkit"))
    assert [(answer.score, answer.parsed) for answer in again] == [(1.0, True), (0.0, False)]
    summary = summarize(again, scorer_name="pope-vlmevalkit", resamples=10)
    assert (summary["visual_reliance_score"], summary["scoring"]) == (1.0, "pope-vlmevalkit")
    assert summary["conditions"]["removed"]["unparsed"] == 1
    with pytest.raises(ValueError, match="no scorer 'none'"):
        rescored(table, "none")


def test_questions_of_one_picture_are_resampled_together():
    alone, together = (
        [
            answer
            for i in range(40)
            for answer in answers(
                str(i), {"original": "yes", "removed": "yes" if i < 20 else "no"}, picture=str(i // 10) if one else ""
            )
        ]
        for one in (False, True)
    )
    narrow, wide = (summarize(table, resamples=2000)["confidence_interval"] for table in (alone, together))
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


def test_what_was_not_asked_is_said():
    summary = summarize(answers("1", {"original": "yes"}), resamples=10)
    assert (summary["visual_reliance_score"], summary["accuracy"], summary["n"]) == (None, 1.0, 1)
    reason = "the condition 'removed' was not asked"
    assert summary["reason"] == summary["all_questions"]["reason"] == summary["grounding"]["reason"] == reason
    assert summary["sufficiency"]["reason"] == "the condition 'kept' was not asked"
    assert summary["over_random"]["reason"] == summary["floor_normalized_reliance"]["blank"]["reason"] == reason
    assert summary["random_reason"] == "the condition 'random' was not asked"


def without_reason(found, path=""):
    """Paths of all values that are undefined and have no reason beside them."""
    if not isinstance(found, dict):
        return
    said = {"reason"} & set(found)
    for name, value in found.items():
        control = name.startswith("random_")
        if value is None or value == [None, None]:
            if not (("random_reason" in found) if control else said):
                yield f"{path}/{name}"
        else:
            yield from without_reason(value, f"{path}/{name}")


@pytest.mark.parametrize("scope", ["evidence", "all"])
@pytest.mark.parametrize("fill", ["black", "mean"])
def test_what_is_undefined_says_why(scope, fill):
    tables = {
        "one condition": answers("1", {"original": "yes"}),
        "nothing right": answers("1", {"original": "no", "removed": "no", "random": "no", "kept": "no", "blank": "no"}),
        "no evidence": answers("1", {"original": "yes"}, evidence=False),
        "no better than blind": answers("1", {"original": "yes", "removed": "no", "random": "yes", "blank": "yes"}),
        "in part": [*answers("1", {"original": "yes"}), *answers("2", {"original": "yes", "removed": "no"})],
        "nothing": [],
    }
    for name, table in tables.items():
        summary = summarize(table, conditions=["original", "removed"], resamples=10, scope=scope, fill=fill)
        assert not list(without_reason(summary)), name
    partly = summarize(tables["in part"], conditions=["original", "removed", "random"])
    # A control that nothing answers takes nothing from the score.
    assert (partly["visual_reliance_score"], partly["n"]) == (1.0, 1)
    assert partly["random_reason"] == "no question was answered under 'random'"


def test_a_score_by_another_fill_and_over_all_questions():
    table = [
        *answers("1", {"original": "yes", "removed": "yes", "removed-mean": "no", "random-mean": "yes"}),
        *answers("2", {"original": "yes", "removed": "yes", "removed-mean": "yes", "random-mean": "yes"}),
        *answers("3", {"original": "yes"}, evidence=False),
        *answers("4", {"original": "no"}, evidence=False),
    ]
    black, mean = (summarize(table, fill=fill) for fill in ("black", "mean"))
    assert (black["visual_reliance_score"], mean["visual_reliance_score"]) == (0.0, 0.5)
    assert black["random_reason"] == "the condition 'random' was not asked"
    assert (mean["random_reliance_score"], mean["over_random"]["value"]) == (0.0, 0.5)
    # Of each fill, whichever is the headline's.
    assert black["conditions"]["removed-mean"]["over_random"]["value"] == 0.5
    everything = summarize(table, fill="mean", scope="all")
    # Three of four are right, two of them without the evidence.
    assert everything["visual_reliance_score"] == pytest.approx(1 / 3)
    assert everything["over_random"]["value"] == pytest.approx(1 / 3)
    assert (everything["n"], everything["with_evidence"]["n"]) == (4, 2)
    assert everything["with_evidence"]["visual_reliance_score"] == 0.5
    assert everything["with_evidence"] == {name: mean[name] for name in everything["with_evidence"]}
    for options, message in (({"fill": "pink"}, "fill must be one of"), ({"scope": "none"}, "scope must be one of")):
        with pytest.raises(ValueError, match=message):
            summarize(table, **options)


def test_a_refusal_is_not_parsed_by_any_scorer():
    table = [Answer("1", "original", "q", ("no",), "No, I cannot.", 1.0, finish_reason="refusal")]
    for name in ("exact", "contains", "pope-llava"):
        [again] = rescored(table, name)
        assert (again.score, again.parsed) == (0.0, False)
    assert summarize(again for again in rescored(table, "contains"))["conditions"]["original"] == {
        "n": 1,
        "accuracy": 0.0,
        "accuracy_interval": [0.0, 0.0],
        "accuracy_original": 0.0,
        "reliance": None,
        "confidence_interval": [None, None],
        "reason": "no answer is right on the original images",
        "unparsed": 1,
        "endings": {"refusal": 1},
    }


def test_every_interval_is_that_of_the_bootstrap_of_pictures():
    """Against resampling written out: 40 questions about ten pictures, drawn with replacement."""
    rng = np.random.default_rng(1)
    names = ("original", "removed", "random", "kept", "blank")
    scores = {name: rng.integers(0, 2, 40) for name in names}
    table = [
        Answer(
            str(i), name, "q", ("yes",), "yes" if scores[name][i] else "no", float(scores[name][i]), picture=str(i % 10)
        )
        for i in range(40)
        for name in names
    ]
    summary = summarize(table)
    draws = rng.integers(0, 10, (10_000, 10))
    totals = {name: np.array([scores[name][i::10].sum() for i in range(10)])[draws].sum(axis=1) for name in names}
    with np.errstate(all="ignore"):
        expected = {
            "over_random": (totals["random"] - totals["removed"]) / totals["original"],
            "sufficiency": totals["kept"] / totals["original"],
        }
    for name, values in expected.items():
        assert summary[name]["confidence_interval"] == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.03)
    assert summary["accuracy_interval"] == pytest.approx(np.quantile(totals["original"] / 40, [0.025, 0.975]), abs=0.03)
