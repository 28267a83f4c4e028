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
    assert summary["sufficiency"] == 1.0
    assert summary["grounding"] == {
        "grounded, right": 1,
        "grounded, wrong": 1,
        "ungrounded, right": 1,
        "ungrounded, wrong": 0,
    }
    # Without the image one of three is right: (2/3 - 2/3) / (2/3 - 1/3).
    assert summary["floor_normalized_reliance"] == {"text-only": 0.0}
    assert summary["conditions"]["text-only"]["n"] == 4
    assert summary["conditions"]["text-only"]["accuracy"] == 0.25
    assert summary["conditions"]["removed"]["accuracy"] == pytest.approx(2 / 3)
    assert (summary["questions"], summary["accuracy_all_questions"]) == (4, 0.75)
    # Of four questions, one without evidence stays right.
    assert summary["all_questions"]["accuracy"] == 0.75
    assert summary["by_reference"]["yes"]["n"] == 3


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
    assert summary["reason"] == "the condition 'removed' was not asked"
    assert summary["all_questions"] is summary["grounding"] is summary["sufficiency"] is None
