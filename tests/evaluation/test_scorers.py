import sys

import pytest

from fivl_hf.evaluation.scorers import SCORERS, default_scorer, default_suffix, scorer

# Twelve ways to answer a POPE question, and what the three parsers make of them: yes, no, or None.
POPE = [
    ("yes", "yes", "yes", "yes"),
    ("No", "no", "no", "no"),
    (" YES ", "yes", "yes", "yes"),
    ("Yes, there is a dog.", None, "yes", "yes"),
    ("No, there is no dog.", None, "no", "no"),
    ("There is not a dog.", None, None, "no"),
    ("There is a dog.", None, None, "yes"),
    ("yes.", None, "yes", "yes"),
    ("Yes and no.", None, None, "no"),
    ("nothing", None, None, "yes"),
    ("I cannot tell. No.", None, "no", "yes"),
    ("yes yes", None, "yes", "yes"),
]


@pytest.mark.parametrize(("answer", "lmms_eval", "vlmevalkit", "llava"), POPE)
def test_popes_three_parsers(answer, lmms_eval, vlmevalkit, llava):
    for name, said in (("pope-lmms-eval", lmms_eval), ("pope-vlmevalkit", vlmevalkit), ("pope-llava", llava)):
        for label in ("yes", "no"):
            assert scorer(name)(answer, [label]) == (None if said is None else float(said == label)), (name, label)


@pytest.mark.parametrize(("matches", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vqa_leaves_one_reference_out(matches, expected):
    references = ["brown"] * matches + [f"other {i}" for i in range(10 - matches)]
    assert scorer("vqa")("Brown.", references) == pytest.approx(expected)


def test_vqa_compares_normal_forms():
    assert scorer("vqa")("The U.S.", ["us"]) == scorer("vqa")("two", ["2"]) == 1.0
    assert scorer("vqa")("50%", ["50"]) == scorer("vqa")("the dog cat", ["dog"]) == 0.0
    # Also where all references are equal, unlike VQA's own evaluation.
    assert scorer("vqa")("Yes", ["yes"] * 10) == 1.0


@pytest.mark.parametrize(
    ("name", "answer", "references", "expected"),
    [
        ("exact", "Yes, there is a dog.", ["yes"], 0.0),
        ("exact", " Two Dogs. ", ["two dogs"], 1.0),
        ("exact", "  ", ["two dogs"], None),
        ("contains", "I see two dogs there.", ["Two dogs"], 1.0),
        ("contains", "a hotdog", ["dog"], 0.0),
        ("contains", "...", ["dog"], None),
        ("contains", "No, yes.", ["yes"], None),
        ("contains", "Yes, it is.", ["yes"], 1.0),
        ("contains", "yes and no", ["yes and no", "both"], 1.0),
        ("pope-llava", " ", ["yes"], None),
        ("gqa", "On the left.", ["on the left"], 1.0),
        ("gqa", "left", ["on the left"], 0.0),
        ("gqa", "!?", ["left"], None),
        ("vqa", "", ["left"], None),
    ],
)
def test_scorers_by_hand(name, answer, references, expected):
    assert scorer(name)(answer, references) == expected


def test_benchmarks_have_their_scorers_and_unknown_ones_are_named():
    sources = {"POPE": "pope-vlmevalkit", "VQAv2": "vqa", "GQA": "gqa", "scenes": "exact"}
    assert {source: default_scorer(source) for source in sources} == sources
    assert set(sources.values()) <= set(SCORERS)
    with pytest.raises(ValueError, match="no scorer 'fuzzy'; there are bleu, contains, exact"):
        scorer("fuzzy")


def test_benchmarks_ask_for_short_answers():
    assert default_suffix("POPE") == "\nAnswer the question using a single word or phrase."
    assert default_suffix("scenes") == ""


def test_captions_are_scored_by_how_much_they_share():
    rouge, bleu = scorer("rouge"), scorer("bleu")
    # All three words of the answer, three of four of the second reference: 2 · 1 · 0.75 / 1.75.
    assert rouge("The cat sat", ["a dog", "the cat sat down"]) == pytest.approx(6 / 7)
    assert rouge("nothing else", ["the cat sat down"]) == 0
    assert bleu("the cat sat down", ["a dog", "the cat sat down"]) == pytest.approx(1)
    # Precisions 4/5, 3/4, 2/3, 1/2 of one to four words in a row, as long as the reference.
    assert bleu("the cat sat down there", ["the cat sat down here"]) == pytest.approx(
        (4 / 5 * 3 / 4 * 2 / 3 / 2) ** 0.25
    )
    assert rouge(" ", ["a"]) is bleu("", ["a"]) is None


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ValueError, match="this scorer needs sacrebleu: pip install sacrebleu"):
        scorer("bleu")("a", ["a"])


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_scores_lie_between_0_and_1(name):
    """Texts that are equal, too: sacrebleu gives them a little more than 100."""
    texts = ["yes", "no", "a red ring and a blue cup lie on the table", "two dogs run over the green grass today"]
    values = [scorer(name)(answer, [right]) for answer in texts for right in texts]
    assert all(value is None or 0 <= value <= 1 for value in values)
    assert max(value for value in values if value is not None) == pytest.approx(1)
