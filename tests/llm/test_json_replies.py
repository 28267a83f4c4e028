import pytest

from fivl_hf.llm.json_replies import parse_json_reply, without_thoughts


@pytest.mark.parametrize(
    "text", ['{"a": 1}', ' <think>{"a": 2}</think> {"a": 1}', '```json\n{"a": 1}\n```', '```\n{"a": 1}```']
)
def test_what_models_add_to_json_is_left_out(text):
    assert parse_json_reply(text) == {"a": 1}


def test_something_else_is_refused():
    with pytest.raises(ValueError, match="the reply is not valid JSON"):
        parse_json_reply("a: 1")
    assert without_thoughts("<think>no</think>yes") == "yes"
    assert without_thoughts("yes <think>no</think>") == "yes <think>no</think>"
