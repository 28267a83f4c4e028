import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivl_hf.augment.expressions import Mention, Rejected, check_expressions, is_single_word
from fivl_hf.schema import Turn

TURN = Turn("What is there?", "A red car and a dog beside a red car.")


def test_expressions_keep_their_place():
    found = check_expressions(["red car", "dog", "red car"], TURN)
    assert found.mentions == (Mention("red car", 2, 9), Mention("dog", 16, 19), Mention("red car", 29, 36))
    assert not found.rejected


@pytest.mark.parametrize(
    ("proposed", "reason"),
    [
        ("", "empty"),
        (" . ", "empty"),
        ("none", "a refusal"),
        ("N/A", "a refusal"),
        ("No expressions.", "a refusal"),
        ("There are no key expressions in the answer", "a refusal"),
        ("visual token", "about the task, not the image"),
        ("blue car", "not in the answer"),
        ("ca", "not in the answer"),
        ("What", "not in the answer"),
        ("x" * 300, "longer than 200 characters"),
    ],
)
def test_what_the_rules_drop(proposed, reason):
    found = check_expressions([proposed], TURN)
    assert not found.mentions
    assert [item.reason for item in found.rejected] == [reason]


def test_an_expression_named_too_often():
    found = check_expressions(["dog", "dog"], TURN)
    assert found.mentions == (Mention("dog", 16, 19),)
    assert found.rejected == (Rejected("dog", "named more often than the answer has it"),)


def test_case_quotes_and_points_do_not_matter_but_the_answers_words_are_kept():
    assert check_expressions(['"Red Car".'], TURN).mentions == (Mention("red car", 2, 9),)


@pytest.mark.parametrize(
    ("proposed", "kept"),
    [
        ("'red' car", "'red' car"),
        ("\"'red' car\"", "'red' car"),
        ("**'red' car**.", "'red' car"),
        ("'red'", "'red'"),
        ("‘dog’s bowl’", "dog’s bowl"),
        ("the boys' bikes", "the boys' bikes"),
        ("'Stop", "Stop"),
    ],
)
def test_quotes_around_the_whole_go_those_of_a_part_stay(proposed, kept):
    turn = Turn("What?", "A 'red' car, a dog’s bowl and the boys' bikes at the sign Stop.")
    (mention,) = check_expressions([proposed], turn).mentions
    assert mention.text == (kept if proposed != "'red'" else "red")


def test_a_single_word_answer_takes_expressions_from_the_question():
    turn = Turn("Is the white dog asleep?", "Yes.")
    assert check_expressions(["white dog"], turn).mentions == (Mention("white dog", -1, -1),)
    assert check_expressions(["Yes"], turn).mentions == (Mention("Yes", 0, 3),)
    longer = Turn("Is the white dog asleep?", "Yes, it is.")
    assert not check_expressions(["white dog"], longer).mentions


def test_scripts_without_spaces_have_no_word_boundaries():
    turn = Turn("有什么？", "图中有一辆红色汽车和一只狗。")
    assert [mention.text for mention in check_expressions(["红色汽车", "狗"], turn).mentions] == ["红色汽车", "狗"]


@pytest.mark.parametrize(
    ("answer", "single"),
    [("Yes", True), ("3.", True), ("2:30 pm", False), ("", False), ("T-shirt", True), ("一只棕色的猫", False)],
)
def test_single_words(answer, single):
    assert is_single_word(answer) is single


@given(st.lists(st.text(max_size=12), max_size=6), st.text(max_size=40), st.text(max_size=40))
def test_every_proposal_is_kept_or_rejected_and_spans_are_true(proposed, question, answer):
    found = check_expressions(proposed, Turn(question, answer))
    assert len(found.mentions) + len(found.rejected) == len(proposed)
    for mention in found.mentions:
        if mention.start >= 0:
            assert answer[mention.start : mention.end] == mention.text
        else:
            assert mention.text in question


def test_apostrophes_of_another_kind_are_found():
    turn = Turn("What?", "It is the man’s hat, and the sign says No.")
    assert check_expressions(["man's hat", "No"], turn).mentions == (
        Mention("man’s hat", 10, 19),
        Mention("No", 39, 41),
    )


@pytest.mark.parametrize(
    ("proposed", "answer", "default", "paper"),
    [
        # Refusals: whole entries, or anywhere in one.
        ("subway token", "A subway token.", "subway token", None),
        ("visual effects", "Some visual effects.", "visual effects", None),
        ("none", "There is none.", None, None),
        # Case.
        ("Red car", "A red car.", "red car", None),
        # Parts of words.
        ("river", "A riverbank.", None, "river"),
        ("elephant", "Two elephants.", "elephants", "elephant"),
        ("bus", "Two buses.", "buses", "bus"),
        # Quotes, possessives, hyphens.
        ("'red' car", "A 'red' car.", "'red' car", "'red' car"),
        ('"red car"', "A red car.", "red car", None),
        ("man's hat", "The man's hat.", "man's hat", "man's hat"),
        ("T-shirt", "A T-shirt.", "T-shirt", "T-shirt"),
        ("", "A car.", None, None),
    ],
)
def test_both_protocols_by_hand(proposed, answer, default, paper):
    for protocol, expected in (("default", default), ("paper", paper)):
        found = check_expressions([proposed], Turn("What is it?", answer), protocol)
        assert [mention.text for mention in found.mentions] == ([expected] if expected else []), protocol
        assert all(answer[mention.start : mention.end] == mention.text for mention in found.mentions)


def test_what_an_answer_of_one_word_is_grounded_by():
    """By default words of the question are; in the paper anything, under the answer's name."""
    turn = Turn("Is there a ring?", "Yes")
    default, paper = (check_expressions(["ring", "bell"], turn, protocol) for protocol in ("default", "paper"))
    assert default.mentions == (Mention("ring", -1, -1),)
    assert paper.mentions == (Mention("Yes", 0, 3, prompt="ring"), Mention("Yes", 0, 3, prompt="bell"))


def test_a_leading_article_may_differ_from_the_answers():
    turn = Turn("What is there?", "There is a red circle, and the dog. A red circle again.")
    found = check_expressions(["the red circle", "The red circle", "a dog", "the dog", "the cat"], turn)
    assert [(mention.text, mention.start) for mention in found.mentions] == [
        ("red circle", 11),
        ("red circle", 38),
        ("dog", 31),
        ("the dog", 27),
    ]
    assert [each.text for each in found.rejected] == ["the cat"]


def test_the_papers_protocol_takes_articles_as_they_are():
    turn = Turn("What is there?", "There is a red circle.")
    assert not check_expressions(["the red circle"], turn, "paper").mentions
