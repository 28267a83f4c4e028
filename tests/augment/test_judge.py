import pytest
from judges import honest, image_of, kind_of
from scripted_server import Answer

from fivl_hf.augment.judge import Judged, Judgement, judge_rows, summarize
from fivl_hf.llm.settings import Usage
from fivl_hf.storage import load_rows


def test_the_judge_sees_the_inside_and_the_outside(scenes_folder, serve, settings, tmp_path):
    server = serve(honest)
    rows = load_rows(scenes_folder, "train")
    judged = judge_rows(rows, settings(server), tmp_path / "a.sqlite", samples=10)
    assert len(judged.judgements) == 10
    assert all(j.seg1 and j.important and j.degree == 8 and j.problem is None for j in judged.judgements)
    shares = {kind_of(body): (image_of(body).max(axis=2) < 20).mean() for body in server.bodies}
    assert shares["importance"] < 0.05
    assert shares["seg1"] > 0.8
    assert 0.01 < shares["seg2"] < 0.2
    again = judge_rows(rows, settings(server), tmp_path / "a.sqlite", samples=10)
    assert again.judgements == judged.judgements
    assert (again.spent.requests, again.spent.cached) == (0, 30)


def test_a_judge_that_answers_nonsense_is_counted(scenes_folder, serve, settings, tmp_path):
    server = serve(lambda body, number: Answer("yes!" if kind_of(body) == "seg1" else '{"visible": false}'))
    judged = judge_rows(load_rows(scenes_folder, "train"), settings(server), tmp_path / "a.sqlite", samples=4)
    summary = summarize(judged)
    assert summary["without_usable_reply"] == 4
    assert summary["all"]["seg1"] == {"mean": None, "confidence_interval": None, "n": 0}
    assert summary["all"]["seg2"]["mean"] == 0.0
    assert (
        "seg1: the language model's reply cannot be used: the reply is not valid JSON" in judged.judgements[0].problem
    )
    assert "cannot be used: a degree from 0 to 10" in judged.judgements[0].problem


def test_the_summary_by_hand():
    judgements = [Judgement(str(i), 0, "a", 0.1, True, degree, i < 8, False) for i, degree in enumerate([5] * 10)]
    judgements.append(Judgement("x", 0, "a", 1.0, False, 0, False, True))
    summary = summarize(Judged(judgements, Usage()))
    band = summary["by_mask_coverage"]["5% to 20%"]
    assert band["n"] == 10
    # Wilson's interval of 8 of 10 at 95%.
    assert band["seg1"]["mean"] == 0.8
    assert band["seg1"]["confidence_interval"] == pytest.approx([0.4902, 0.9433], abs=1e-4)
    assert band["degree"] == {"mean": 5.0, "confidence_interval": [5.0, 5.0], "n": 10}
    assert summary["by_mask_coverage"]["50% to 100%"]["n"] == 1
    assert summary["by_mask_coverage"]["0% to 5%"]["degree"]["mean"] is None
    assert summary["all"]["important"]["mean"] == pytest.approx(10 / 11)


def test_rows_without_expressions_are_said(scenes_folder, serve, settings, tmp_path):
    rows = load_rows(scenes_folder, "train").map(lambda row: {"key_expressions": []})
    with pytest.raises(ValueError, match="no key expressions to judge"):
        judge_rows(rows, settings(serve(honest)), tmp_path / "a.sqlite")
