import copy

import pytest

from fivl_hf.chat import ChatTemplateError, as_blocks, encode, ends_turns, find_answers, render
from fivl_hf.keywords import span_tokens

LLAVA = (  # LLaVA-1.5's: no end-of-turn mark, a space after each text
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}{% for c in m['content'] %}"
    "{{ '<image>\n' if c['type'] == 'image' else c['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] | trim }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
UPPER = LLAVA.replace("c['text'] + ' '", "c['text'].upper() + ' '")

TALK = [
    {"role": "system", "content": "Be brief. ASSISTANT: A"},
    {"role": "user", "content": "Is the A here?"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "And A again, ASSISTANT: A?"},
    {"role": "assistant", "content": "It is A. "},
]


@pytest.mark.parametrize(
    ("template", "written"),
    [
        (LLAVA, [" A", " It is A. "]),
        (CHATML, ["A<|im_end|>", "It is A.<|im_end|>"]),
        (THINKING, ["A<|im_end|>", "It is A.<|im_end|>"]),
        (None, [" A</s>", " It is A. </s>"]),
    ],
)
def test_answers_are_found_in_every_template(processor, template, written):
    messages = as_blocks(TALK, 1)
    text = render(processor, messages, template=template)
    spans = find_answers(processor, messages, text, template)
    assert [text[span.start : span.end] for span in spans] == written
    assert [text[span.text_start] for span in spans] == ["A", "I"]


def test_a_template_that_rewrites_answers_is_refused(processor):
    messages = as_blocks([{"role": "user", "content": "What?"}, {"role": "assistant", "content": "a dog"}], 0)
    with pytest.raises(ChatTemplateError, match="'a dog'.*assistant_only_loss=False"):
        find_answers(processor, messages, render(processor, messages, template=UPPER), UPPER)


def test_end_of_turn_marks(processor):
    assert ends_turns(processor)
    processor_like = type(processor)(processor.image_processor, processor.tokenizer, patch_size=8, chat_template=LLAVA)
    assert not ends_turns(processor_like)


def test_offsets_follow_expanded_placeholders(processor, dataset):
    conversations = [as_blocks(dataset[i]["messages"], 1) for i in range(3)]
    encoded = encode(processor, conversations, [dataset[i]["images"] for i in range(3)], padding=True)
    for i in range(3):
        answers = [m["content"] for m in dataset[i]["messages"] if m["role"] == "assistant"]
        for span, answer in zip(encoded.answers[i], answers, strict=True):
            ids = encoded.inputs["input_ids"][i, span_tokens(encoded.offsets[i], span.start, span.end)]
            assert processor.tokenizer.decode(ids) == f" {answer}</s>"


def test_the_bos_token_is_added_unless_the_template_writes_it(processor, dataset):
    from tokenizers.processors import TemplateProcessing

    with_bos = copy.deepcopy(processor)
    tokenizer = with_bos.tokenizer
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    messages, images = [as_blocks(dataset[0]["messages"], 1)], [dataset[0]["images"]]

    def leading(**options):
        return (
            encode(with_bos, messages, images, **options).inputs["input_ids"][0, :2] == tokenizer.bos_token_id
        ).tolist()

    assert leading() == [True, False]
    assert leading(add_special_tokens=False) == [False, False]
    assert leading(template="{{ bos_token }}" + processor.chat_template) == [True, False]


def test_turn_formats_are_kept_per_tokenizer(processor):
    template = "{% for m in messages %}{{ m['role'] }} {{ m['content'][0]['text'] }}{{ eos_token }}{% endfor %}"
    other = copy.deepcopy(processor)
    other.tokenizer.eos_token = "<pad>"
    messages = as_blocks([{"role": "user", "content": "q"}, {"role": "assistant", "content": "dog"}], 0)
    for which, mark in ((processor, "</s>"), (other, "<pad>")):
        text = render(which, messages, template=template)
        (span,) = find_answers(which, messages, text, template)
        assert text[span.text_start : span.end] == "dog" + mark


def test_images_go_before_the_first_user_text():
    blocks = as_blocks(TALK[1:], 2)
    assert [b["type"] for b in blocks[0]["content"]] == ["image", "image", "text"]
    assert all(len(m["content"]) == 1 for m in blocks[1:])
    assert as_blocks(blocks, 2) == blocks
