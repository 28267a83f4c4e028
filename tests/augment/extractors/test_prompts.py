import pytest

from fivl_hf.augment.extractors.prompts import parse_expressions


def test_replies_in_text_and_json():
    assert parse_expressions('<think>A car?</think>\n{"expressions": ["a"]}', "json") == ["a"]
    assert parse_expressions("red car ::: dog", "text") == ["red car ", " dog"]
    assert parse_expressions('```json\n{"expressions": ["a"]}\n```', "json") == ["a"]
    with pytest.raises(ValueError, match="not valid JSON"):
        parse_expressions("red car", "json")
    for other in ("[]", '{"expressions": "a"}', '{"expressions": [1]}', "3", "[" * 100_000):
        with pytest.raises(ValueError, match="JSON"):
            parse_expressions(other, "json")
