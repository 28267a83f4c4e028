import pytest

from fivl_hf.evaluation.vqa import vqa_form


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("The dog", "dog"),
        ("Two dogs and a cat", "2 dogs and cat"),
        ("none", "0"),
        # Periods go, except before a digit.
        ("U.S.", "us"),
        ("p.m.", "pm"),
        ("3.5", "3.5"),
        ("3.", "3"),
        # Other marks become spaces ...
        ("snow_board", "snow board"),
        ("t-shirt", "t shirt"),
        ("yes!", "yes"),
        # ... or nothing, all of one kind, where one stands beside a space,
        ("t-shirt - red", "tshirt red"),
        ("red, white", "red white"),
        # or where there is a number with commas.
        ("1,000", "1000"),
        ("1,000/2,000 (miles)", "10002000 miles"),
        # Signs that carry meaning, apostrophes and colons stay.
        ("50%", "50%"),
        ("$5", "$5"),
        ("2:30", "2:30"),
        ("the man's", "man's"),
        # Contractions without one of their apostrophes.
        ("isnt", "isn't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("Oclock", "o'clock"),
        ("twas", "'twas"),
        ("yall'd've", "y'all'd've"),
        # Not in VQA's table.
        ("Im", "im"),
        ("lets", "lets"),
        ("couldntve", "couldntve"),
        ("somebody'd", "somebodyd"),
        ("\ta\nred\tdog ", "red dog"),
        ("the", ""),
        ("", ""),
    ],
)
def test_vqas_normal_form_by_hand(answer, form):
    assert vqa_form(answer) == form
