import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from fivl_hf.annotation.kappa import answer_counts, cohen_kappa, confusion, fleiss_kappa, krippendorff_alpha

# Fleiss (1971) as Wikipedia works it: 14 annotators, 10 items, 5 categories.
FLEISS = (
    """0 0 0 0 14; 0 2 6 4 2; 0 0 3 5 6; 0 3 9 2 0; 2 2 8 1 1; 7 7 0 0 0; 3 2 6 3 0; 2 5 3 2 2; 6 5 2 1 0; 0 2 2 3 7"""
)
# Krippendorff's example with gaps (Wikipedia): three observers, values 1 to 4, 15 units.
OBSERVERS = ("*****34121133*3", "1*213343*******", "**21344*21133*4")


def test_cohens_kappa_by_hand():
    # Of 50, 35 agree: 0.7. By chance (25 × 30 + 25 × 20) / 2500 = 0.5. Beyond chance 0.2 of 0.5.
    assert cohen_kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)
    assert cohen_kappa([[5, 0], [0, 5]]) == 1
    assert cohen_kappa([[0, 5], [5, 0]]) == -1
    assert cohen_kappa([[7, 0], [0, 0]]) is None
    assert cohen_kappa([[0, 0], [0, 0]]) is None


@given(st.lists(st.tuples(st.sampled_from("ynu"), st.sampled_from("ynu")), min_size=2, max_size=40))
def test_cohens_kappa_is_that_of_scikit_learn(pairs):
    a, b = zip(*pairs, strict=True)
    ours = cohen_kappa(confusion(a, b, "ynu"))
    if ours is None:
        assert len(set(a) | set(b)) == 1
    else:
        assert ours == pytest.approx(cohen_kappa_score(a, b))


def test_fleiss_kappa_is_the_published_one():
    counts = [[int(n) for n in line.split()] for line in FLEISS.split(";")]
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)
    # Items of one annotator say nothing about agreement.
    assert fleiss_kappa([*counts, [1, 0, 0, 0, 0]]) == fleiss_kappa(counts)
    assert fleiss_kappa([[1, 0], [0, 1]]) is None
    assert fleiss_kappa([[2, 0], [2, 0]]) is None
    assert fleiss_kappa([[2, 0], [0, 3]]) == 1


def test_krippendorffs_alpha_is_the_published_one():
    units = [
        {name: values[i] for name, values in zip("ABC", OBSERVERS, strict=True) if values[i] != "*"} for i in range(15)
    ]
    assert krippendorff_alpha(answer_counts(units, "1234")) == pytest.approx(0.691, abs=5e-4)
    assert krippendorff_alpha([[2, 0], [2, 0]]) is None
    assert krippendorff_alpha([[1, 0], [0, 1]]) is None


def test_confusion_has_a_row_for_each_answer_of_the_first():
    assert confusion("yyn", "ynn", "yn") == [[1, 1], [0, 1]]
    assert np.sum(confusion([], [], "yn")) == 0
