"""Conversations as a model reads them: rendering, tokenizing, and which characters and tokens are whose.

Chat templates need no ``{% generation %}`` markers for this. What a template writes around an answer is learnt once
from a dummy conversation; then each answer is found in the rendered text.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from threading import RLock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AnswerSpan",
    "ChatTemplateError",
    "Encoded",
    "Message",
    "as_blocks",
    "encode",
    "ends_turns",
    "find_answers",
    "message_text",
    "render",
    "similar_batches",
]

_QUESTION, _ANSWER = "Zquestionz", "Zanswerz"

Message = Mapping[str, Any]
Item = TypeVar("Item")

_NOTING = RLock()
_NEED_IMAGES = ("PaliGemmaProcessor",)  # these refuse batches of text alone, which their tokenizers take


class ChatTemplateError(ValueError):
    """The answers of a conversation cannot be found in what its chat template renders."""


@dataclass(frozen=True)
class AnswerSpan:
    """The place of one answer, in characters.

    ``start`` to ``end`` is all that the model writes in its turn (with the end-of-turn mark);
    ``text_start`` is where the answer's own first character stands.
    """

    start: int
    text_start: int
    end: int


@dataclass(frozen=True)
class Encoded:
    """A batch of conversations ready for the model.

    Attributes:
        inputs: what the model takes (``input_ids`` (B, T), ``attention_mask``, ``pixel_values``, ...).
        offsets: (B, T, 2) characters of each token in the text whose placeholders are expanded; 0, 0 for padding.
        answers: per conversation, one span per assistant turn, in the same characters.
    """

    inputs: Any
    offsets: NDArray[np.int64]
    answers: list[list[AnswerSpan]]


def similar_batches(
    items: Iterable[Item], size: int, images: Callable[[Item], int], length: Callable[[Item], int], sorted_batches: int
) -> Iterator[list[Item]]:
    """Yield batches of conversations of similar length, so that they hold little padding.

    Args:
        size: largest size of a batch.
        images: key that all conversations of a batch share, such as the number of images: processors refuse batches in
            which only some have images.
        length: key to sort by.
        sorted_batches: how many batches' conversations are sorted together; all of these are in memory.
    """
    waiting = iter(items)
    while window := list(islice(waiting, sorted_batches * size)):
        window.sort(key=lambda item: (images(item), length(item)))
        for _, alike in groupby(window, images):
            chosen = list(alike)
            yield from (chosen[start : start + size] for start in range(0, len(chosen), size))


def as_blocks(messages: Sequence[Message], images: int) -> list[dict[str, Any]]:
    """Return messages with plain-text content as content blocks, ``images`` placeholders before the first user text.

    Messages that have blocks already are kept, and so are those without content (of tool calls).
    """
    blocks: list[dict[str, Any]] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
            if images and message["role"] == "user":
                content = [{"type": "image"}] * images + content
                images = 0
            message = {**message, "content": content}
        blocks.append(dict(message))
    return blocks


def render(processor: Any, messages: Sequence[Message], *, prompt: bool = False, template: str | None = None) -> str:
    """Return the text of a conversation in content blocks; ``prompt`` adds the header of the answer to come."""
    return processor.apply_chat_template(
        list(messages), chat_template=template, tokenize=False, add_generation_prompt=prompt
    )


def encode(
    processor: Any,
    conversations: Sequence[Sequence[Message]],
    images: Sequence[Sequence[Any]],
    *,
    prompt: bool = False,
    template: str | None = None,
    add_special_tokens: bool | None = None,
    **processor_kwargs: Any,
) -> Encoded:
    """Render and tokenize conversations once, keeping track of every answer.

    Args:
        conversations: B conversations in content blocks (:func:`as_blocks`).
        images: the images of each conversation, in placeholder order.
        prompt: end with the header of the answer to come, as for generation.
        template: chat template to use in place of the processor's own.
        add_special_tokens: whether the tokenizer adds its own (a BOS token, say); by default, as in transformers'
            ``apply_chat_template``, unless the template writes the BOS token itself. TRL trains without.
        processor_kwargs: passed to the processor (padding, truncation, max_length, ...).

    Raises:
        ChatTemplateError: an answer is not found in the rendered text.
    """
    texts = [render(processor, messages, prompt=prompt, template=template) for messages in conversations]
    if add_special_tokens is None:
        bos = processor.tokenizer.bos_token
        add_special_tokens = bos is None or not texts[0].startswith(bos)
    if not any(map(len, images)) and type(processor).__name__ in _NEED_IMAGES:
        tokens = {"return_token_type_ids": True, "add_special_tokens": add_special_tokens, **processor_kwargs}
        inputs = processor.tokenizer(texts, return_tensors="pt", return_offsets_mapping=True, **tokens)
        return _encoded(processor, conversations, texts, inputs, template)
    with _noting_texts(processor, texts) as noted:
        inputs = processor(
            text=texts,
            images=[list(row_images) for row_images in images] if any(map(len, images)) else None,
            return_tensors="pt",
            add_special_tokens=add_special_tokens,
            return_offsets_mapping=True,
            **processor_kwargs,
        )
    return _encoded(processor, conversations, noted.texts, inputs, template)


def _encoded(
    processor: Any,
    conversations: Sequence[Sequence[Message]],
    texts: Sequence[str],
    inputs: Any,
    template: str | None,
) -> Encoded:
    """Return the answers' places in the texts as they were tokenized."""
    offsets = np.asarray(inputs.pop("offset_mapping"))
    answers = [
        find_answers(processor, messages, text, template) for messages, text in zip(conversations, texts, strict=True)
    ]
    return Encoded(inputs, offsets, answers)


class _NotingTokenizer:
    """A tokenizer that remembers the texts it was given: placeholders expanded, and whatever else a processor adds."""

    def __init__(self, tokenizer: Any, texts: list[str]) -> None:
        self.tokenizer = tokenizer
        self.texts = texts

    def __call__(self, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        # Processors also tokenize single tokens and dummy texts on the side.
        if isinstance(text, (list, tuple)) and len(text) == len(self.texts):
            self.texts = list(text)
        return self.tokenizer(text, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __len__(self) -> int:
        return len(self.tokenizer)


@contextmanager
def _noting_texts(processor: Any, texts: list[str]) -> Iterator[_NotingTokenizer]:
    """While open, notes what the processor makes of the texts before it tokenizes them.

    Its own option for this (``return_text_replacement_offsets``) fails in some processors for batches of which some
    texts have no image, others do not have it, and it does not tell of a BOS that is put in (transformers 5.23).
    """
    # The processor is changed meanwhile, so that two threads must not do it at once.
    with _NOTING:
        noting = _NotingTokenizer(processor.tokenizer, texts)
        processor.tokenizer = noting
        try:
            yield noting
        finally:
            processor.tokenizer = noting.tokenizer


@dataclass(frozen=True)
class _TurnFormat:
    """The text that a template writes around an answer: the prompt's header, then ``lead``, the answer, ``close``."""

    header: str
    lead: str
    close: str


def find_answers(processor: Any, messages: Sequence[Message], text: str, template: str | None) -> list[AnswerSpan]:
    """Return the span of every assistant turn in the rendered ``text``.

    Raises:
        ChatTemplateError: the template changes an answer's text, so that it cannot be found.
    """
    form = _turn_format(processor, template)
    spans, cursor = [], 0
    for number, message in enumerate(messages):
        content = message_text(message)
        if message.get("tool_calls"):
            spans.append(_calling_turn(processor, messages[: number + 1], text, template, cursor))
            cursor = spans[-1].end
            continue
        if message["role"] != "assistant":
            # The cursor passes questions, so that an answer that repeats an earlier one is found in its own place.
            found = text.find(content, cursor)
            cursor = found + len(content) if found >= 0 else cursor
            continue
        opening = form.header + form.lead
        # Looked for with its opening: "Yes" alone would be found in the question before it.
        found, written = _find_written(text, opening, content, cursor)
        if found < 0:
            raise ChatTemplateError(
                f"the chat template does not render the answer {content!r} as it stands, so its tokens cannot be "
                "told from the prompt's. Use a template with {% generation %} markers, or set "
                "assistant_only_loss=False."
            )
        # The span begins behind the header, which the prompt of a generation ends with: what the template leads an
        # answer in with (a space, a thinking block) is the model's to write. The text's own start is counted back from
        # the answer as written, which may lack white space that the row's answer begins with.
        start = found + len(opening)
        end = start + len(written)
        end += len(form.close) if text.startswith(form.close, end) else 0
        spans.append(AnswerSpan(found + len(form.header), start - content.find(written), end))
        cursor = end
    return spans


def _calling_turn(
    processor: Any, messages: Sequence[Message], text: str, template: str | None, cursor: int
) -> AnswerSpan:
    """Return the span of the last message, which calls tools: all that the template writes after the prompt for it.

    Raises:
        ChatTemplateError: the template writes the turns before it otherwise once it is there.
    """
    before = render(processor, messages[:-1], prompt=True, template=template)
    through = render(processor, messages, template=template)
    written = through[len(before) :].rstrip()
    start = text.find(written, cursor) if through.startswith(before) and written else -1
    if start < 0:
        raise ChatTemplateError(
            f"with the tool call of {message_text(messages[-1])!r}, the chat template renders the turns before it "
            "otherwise, so its tokens cannot be told from the prompt's. Use a template with {% generation %} markers, "
            "or set assistant_only_loss=False."
        )
    return AnswerSpan(start, start, start + len(written))


def _find_written(text: str, opening: str, content: str, cursor: int) -> tuple[int, str]:
    """Find an answer after its opening, as it stands or stripped of outer white space, as some templates do."""
    for written in (content, content.strip()):
        found = text.find(opening + written, cursor)
        if found >= 0:
            return found, written
    return -1, content


def message_text(message: Message) -> str:
    """Return the text of a message, given as a string or as content blocks; empty for one of tool calls alone."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block["type"] == "text")


def _turn_format(processor: Any, template: str | None) -> _TurnFormat:
    """Return how a chat template (the processor's own if None) writes an answer, learnt from a dummy turn once."""
    template = processor.chat_template if template is None else template
    # Templates write special tokens by name, so the same template may write something else for another tokenizer.
    key = repr((template, sorted(processor.tokenizer.special_tokens_map.items())))
    if key not in _TURN_FORMATS:
        _TURN_FORMATS[key] = _learn_turn_format(processor, template)
    return _TURN_FORMATS[key]


_TURN_FORMATS: dict[str, _TurnFormat] = {}


def _learn_turn_format(processor: Any, template: Any) -> _TurnFormat:
    template = template["default"] if isinstance(template, dict) else template
    question = as_blocks([{"role": "user", "content": _QUESTION}], 0)
    answered = question + as_blocks([{"role": "assistant", "content": _ANSWER}], 0)
    bare = render(processor, question, template=template)
    prompt = render(processor, question, prompt=True, template=template)
    whole = render(processor, answered, template=template)
    before, _, close = whole.partition(_ANSWER)
    # White space after the end-of-turn mark does not belong to an answer, and may share a token with the next turn.
    close = close.rstrip()
    if before.startswith(prompt):
        header = prompt[len(bare) :] if prompt.startswith(bare) else prompt[prompt.find(_QUESTION) + len(_QUESTION) :]
        return _TurnFormat(header, before[len(prompt) :], close)
    # The prompt says something else than the finished turn (a thinking header, say): trust the finished turn.
    return _TurnFormat(before[before.find(_QUESTION) + len(_QUESTION) :], "", close)


def ends_turns(processor: Any) -> bool:
    """Return whether the chat template writes an end-of-turn mark after answers, at which a model can learn to stop."""
    return bool(_turn_format(processor, None).close)
