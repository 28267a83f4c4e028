import pytest

from fivl_hf.explain.pictures import (
    attention_picture,
    evidence_sheet,
    last_place,
    segments_picture,
    word_tokens,
)
from fivl_hf.explain.runner import write_explanation
from fivl_hf.explain.samples import prepare


def test_a_chosen_word_is_followed(model, processor, rows, tmp_path):
    write_explanation(model, processor, rows[:4], tmp_path, pictures=4, word="There")
    saying = [row for row in rows[:4] if any("There" in m["content"] for m in row["messages"])]
    assert len(list((tmp_path / "pictures").glob("*.png"))) == len(saying)
    write_explanation(model, processor, rows[:4], tmp_path, pictures=1)
    assert [path.name for path in (tmp_path / "pictures").glob("*.png")] == ["000.png"]
    with pytest.raises(ValueError, match="no answer says 'zebra'"):
        write_explanation(model, processor, rows[:4], tmp_path, word="zebra")


def test_a_words_last_place_is_in_an_answer_and_whole():
    assert last_place(["It is red.", "A redder red, red?"], "red") == (1, 14)
    assert last_place(["It is red.", "Redder."], "red") == (0, 6)
    assert last_place(["redder"], "red") is None


def test_word_tokens_are_those_of_the_answer(model, processor, rows):
    said = ("What color is the ring?", "It is a red ring.", "What is above the red ring?", "There is a blue cross.")
    roles = ("user", "assistant") * 2
    messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    raw = {**rows[0], "messages": messages, "key_expressions": [], "masks": []}
    sample = prepare(model, processor, raw)
    (token,) = word_tokens(sample, "red")
    assert processor.tokenizer.decode(sample.inputs["input_ids"][0][: token + 2]).endswith("It is a red ring")


def test_images_of_a_sample(model, processor, rows):
    sample = prepare(model, processor, rows[0])
    drawing = evidence_sheet(model, sample, 0, layer=0, head=0, side=80)
    assert drawing.width == 2 * 150 + 3 * 12
    assert drawing.height > 2 * 80 + 5 * 26
    assert segments_picture(model, sample, list(sample.evidence), side=80).size == (80, 80)
    word = word_tokens(sample, sample.evidence[0].expression.text)
    assert len(word) == 2
    attention_picture(model, sample, word, 0, 0)
    with pytest.raises(ValueError, match="2 layers of 4 heads"):
        attention_picture(model, sample, word, 2, 0)
    with pytest.raises(ValueError, match="'zebra' does not occur"):
        word_tokens(sample, "zebra")
