import json

from browsers import needs_browser, opened, unreadable

from fivl_hf.annotation.agreement import agreement_summary
from fivl_hf.annotation.items import Verdict
from fivl_hf.annotation.report import mask_size_histogram, write_agreement


def test_the_page_shows_figures_and_disagreements_and_runs_nothing(rate, few_rows, tmp_path):
    said = {"r0/0": {"anna": "yyy", "ben": "nyy"}, "r1/0": {"anna": "yyy", "ben": "yyy"}, "r2/1": {"anna": "yny"}}
    ratings = rate(said, [("anna", "r0/0", "comment", "<script>alert(1)</script>")])
    verdicts = {("r1", 0, "car"): Verdict(False, True, False), ("r2", 0, "dog"): Verdict(False, True, False)}
    summary = agreement_summary(ratings, verdicts)
    write_agreement(tmp_path / "out", summary, ratings, few_rows, title="<i>set</i>", verdicts=verdicts)
    page = (tmp_path / "out" / "agreement.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<i>set" not in page
    assert "2 of 2 expressions on which people disagree" in page
    assert "mask is right: disputed" in page
    assert "important: people yes, judge no" in page
    assert "anna yes, ben no" in page
    stored = json.loads((tmp_path / "out" / "agreement.json").read_text())
    assert stored["shares"]["mask"]["all"]["n"] == 2
    write_agreement(tmp_path / "out", summary, ratings, few_rows, title="T", verdicts=verdicts, most=1)
    assert "1 of 2 expressions" in (tmp_path / "out" / "agreement.html").read_text()


@needs_browser
def test_the_page_can_be_read(rate, few_rows, tmp_path):
    ratings = rate({"r0/0": {"anna": "yyy", "ben": "nyy"}, "r1/0": {"anna": "yyy", "ben": "yyy"}})
    write_agreement(tmp_path, agreement_summary(ratings), ratings, few_rows, title="T")
    with opened(tmp_path / "agreement.html") as driver:
        assert unreadable(driver) == []


def test_a_page_of_one_annotator_without_disagreements(rate, few_rows, tmp_path):
    ratings = rate({"r0/0": {"anna": "yyy"}})
    write_agreement(tmp_path, agreement_summary(ratings), ratings, few_rows, title="T")
    page = (tmp_path / "agreement.html").read_text()
    assert "None: people agree with each other on everything." in page
    assert "the judge" not in page


def test_the_histogram_counts_masks_by_size(rate):
    said = {"r0/0": {"a": "yyy"}, "r1/0": {"a": "nyy"}, "r2/1": {"a": "yyy"}, "r3/1": {"a": "uyy"}}
    axis = mask_size_histogram(rate(said).rated).axes[0]
    right, wrong = ([patch.get_height() for patch in bars] for bars in axis.containers)
    # A quarter is in the third tenth, three quarters in the eighth.
    assert (right[2], wrong[2], right[7], wrong[7]) == (1, 1, 1, 0)
    assert sum(right) + sum(wrong) == 3
