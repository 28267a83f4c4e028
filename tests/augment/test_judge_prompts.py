import pytest

from fivl_hf.augment.judge_prompts import parse_judgement


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("seg1", "Yes.", {"seg1": True}),
        ("seg2", "no", {"seg2": False}),
        ("importance", "yes ::: 7", {"important": True, "degree": 7}),
        ("importance", "yes", None),
        ("importance", "yes ::: 11", None),
        ("seg1", "perhaps", None),
    ],
)
def test_replies_in_text(kind, text, expected):
    if expected is None:
        with pytest.raises(ValueError, match="asked for|true or false"):
            parse_judgement(kind, text, "text")
    else:
        assert parse_judgement(kind, text, "text") == expected
