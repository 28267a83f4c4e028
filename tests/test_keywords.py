import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fivl_hf.keywords import (
    expression_kinds,
    head_noun,
    is_content_word,
    noun_phrases,
    nouns,
    span_tokens,
    word_token_id,
)

CORPUS = [
    "the young tennis player holds the racket",
    "a bowl of fruit and the dog",
    "tennis racket fruit bowl dog",
] * 20


def llama_style():
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=["<unk>", *(f"<0x{i:02X}>" for i in range(256))])
    return tokenizer, trainer


def metaspace():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer, trainers.BpeTrainer(vocab_size=150, special_tokens=["<unk>"])


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer, trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def word_piece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer, trainers.WordPieceTrainer(vocab_size=150, special_tokens=["<unk>"])


def word_level():
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer, trainers.WordLevelTrainer(special_tokens=["<unk>"])


def trained(make):
    tokenizer, trainer = make()
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


KINDS = {f.__name__: f for f in (llama_style, metaspace, byte_level, word_piece, word_level)}


@pytest.fixture(scope="module", params=KINDS, ids=str)
def tokenizer(request):
    return trained(KINDS[request.param])


@pytest.mark.parametrize("word", ["racket", "dog", "fruit", "tennis"])
def test_the_id_is_the_one_inside_a_sentence(tokenizer, word):
    sentence = f"a bowl {word} the"
    encoded = tokenizer(sentence, add_special_tokens=False, return_offsets_mapping=True)
    start = sentence.index(word)
    overlapping = [
        i
        for i, (a, b) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        if a < start + 1 < b + 1 and b > start
    ]
    assert word_token_id(tokenizer, word) == overlapping[0]


def test_unknown_and_empty_words_have_no_id():
    assert word_token_id(trained(word_level), "zebra") is None
    assert word_token_id(trained(word_level), "  ") is None


def test_a_word_of_unknown_letters_falls_back_to_bytes():
    tokenizer = trained(llama_style)
    first = word_token_id(tokenizer, "Ж")
    assert tokenizer.convert_ids_to_tokens(first) in ("▁", "<0xD0>")


class SlowTokenizer:
    """A tokenizer without offsets, as slow ones are."""

    is_fast = False
    unk_token_id = 0

    def encode(self, text, add_special_tokens):
        return [{"the": 1, "dog": 2}.get(word, 0) for word in text.split()]


def test_slow_tokenizers_work_too():
    assert word_token_id(SlowTokenizer(), "dog") == 2
    assert word_token_id(SlowTokenizer(), "cat") is None


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("young tennis player", ("tennis", "player")),
        ("a red circle", ("circle",)),
        ("two men riding horses", ("men", "horses")),
        ("three", ()),
        ("quickly", ()),
        ("", ()),
    ],
)
def test_nouns(expression, expected):
    assert nouns(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("a bowl of fruit", "bowl"), ("young tennis player", "player"), ("dog", "dog"), ("on a table", "table")],
)
def test_head_noun(expression, expected):
    assert head_noun(expression, nouns(expression)) == expected


def test_head_noun_of_nothing():
    assert head_noun("quickly", ()) is None


def test_spacy_is_an_extra():
    with pytest.raises(ImportError, match=r"fivl-hf\[spacy\]"):
        nouns("a dog", tagger="spacy")


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("It is a red circle.", ["red circle"]),
        ("There is a young tennis player, and two dogs.", ["young tennis player", "two dogs"]),
        ("Yes.", []),
        ("The ring, the blue square.", ["ring", "blue square"]),
        ("It's a tan and black cat.", ["tan and black cat"]),
        ("A red, white and blue flag", ["red, white and blue flag"]),
        ("two or three dogs", ["two or three dogs"]),
        ("a small, brown dog and a cat", ["small, brown dog", "cat"]),
        ("The wall is blue, red apples lie there.", ["wall", "red apples"]),
        ("It is black and white.", []),
        ("The cat is upside down.", ["cat"]),
        ("It's upside-down", []),
    ],
)
def test_noun_phrases(text, phrases):
    assert [text[a:b] for a, b in noun_phrases(text)] == phrases


def test_span_tokens_tells_repeated_words_apart(tokenizer):
    text = "the dog and the dog"
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    first, second = span_tokens(offsets, 4, 7), span_tokens(offsets, 16, 19)
    assert len(first) and len(second)
    assert first.max() < second.min()
    covered = [text[offsets[i][0] : offsets[i][1]].strip() for i in second]
    assert "".join(covered).endswith("dog")


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=8), st.integers(0, 20), st.integers(1, 6))
def test_span_tokens_are_those_that_share_a_character(spans, start, length):
    offsets = [(a, a + n) for a, n in spans]
    expected = [i for i, (a, b) in enumerate(offsets) if set(range(a, b)) & set(range(start, start + length))]
    assert span_tokens(offsets, start, start + length).tolist() == expected


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("It's a red car.", ["red car"]),
        ("There's a dog and it isn't black.", ["dog"]),
        ("I’m sure they don’t see the man's hat.", ["man's hat"]),
    ],
)
def test_pronouns_are_not_nouns(text, phrases):
    assert [text[start:end] for start, end in noun_phrases(text)] == phrases
    assert not {"it", "It's", "There's", "isn't", "don’t"} & set(nouns(text))


def test_in_the_paper_proper_nouns_do_not_count():
    assert nouns("Eiffel Tower", proper=False) in ((), ("Tower",))
    assert nouns("Paris") == ("Paris",)
    assert nouns("Paris", proper=False) == ()
    assert nouns("a red car", proper=False) == ("car",)


@pytest.mark.parametrize(
    ("expression", "kinds"),
    [
        ("cat", {"common noun"}),
        ("Paris", {"proper noun"}),
        ("beautiful", {"no noun", "with an adjective"}),
        ("young tennis player", {"common noun", "compound", "with an adjective"}),
        ("two dogs", {"common noun", "with a number"}),
        ("3", {"no noun", "with a number"}),
    ],
)
def test_kinds_of_expressions(expression, kinds):
    assert set(expression_kinds(expression)) == kinds


@pytest.mark.parametrize(
    ("word", "content"),
    [
        *((word, True) for word in ("cat", "red", "running", "two", "Paris")),
        *((word, False) for word in ("the", "of", "is", "very", "it", "")),
    ],
)
def test_function_words_name_nothing(word, content):
    assert is_content_word(word) == content
