"""TRL's vision collator, plus the keyword of every patch."""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.utils import logging
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from fivl_hf.chat import as_blocks, encode, message_text
from fivl_hf.geometry import row_coverage, token_boxes
from fivl_hf.images import ImageError, open_rgb
from fivl_hf.keywords import head_noun, nouns, span_tokens, word_token_id
from fivl_hf.masks import MaskPart, decode_part
from fivl_hf.models import image_token_id
from fivl_hf.schema import KeyExpression, conversation_turns, validate_key_expressions
from fivl_hf.training.answers import has_blank_answers
from fivl_hf.training.config import VisionModelingOptions
from fivl_hf.training.targets import (
    IGNORE,
    NO_NOUN,
    OUTSIDE,
    OVERLAPPED,
    TOO_LARGE,
    patch_owners,
    unlabelled_reasons,
    values_of_owners,
)

__all__ = ["EVIDENCE_COLUMNS", "UNLABELLED_REASONS", "FiVLCollator", "row_name"]

logger = logging.get_logger(__name__)

# Rows may come without evidence at all: plain TRL rows train as they would with SFTTrainer.
EVIDENCE_COLUMNS = ("id", "key_expressions", "masks")
# The columns of ``vision_unlabelled``.
UNLABELLED_REASONS = ("rows without key expressions", NO_NOUN, OUTSIDE, TOO_LARGE, OVERLAPPED)
# More warnings than these would bury the others.
_BLANK_ROWS_NAMED = 5


@dataclass
class FiVLCollator(DataCollatorForVisionLanguageModeling):
    """Collates FiVL rows: TRL's batch and ``vision_labels`` (B, T), -100 except at labelled image tokens.

    With ``options.expression_weight="score"`` also ``vision_weights`` (B, T), 0 except there; with
    ``count_unlabelled`` also ``vision_unlabelled`` (B, 5).

    An expression labels its patches also when ``max_length`` cut off the answer it is in: what a patch shows
    does not depend on the text after it.

    Example (a row in, a batch out)::

        collator = FiVLCollator(processor, model_config=model.config, answers_only=True)
        batch = collator([dataset[0]])
        batch["vision_labels"]  # (1, T): the keyword's token id at labelled image tokens, -100 elsewhere
        batch["labels"]  # (1, T): the answers' token ids, -100 elsewhere

    Attributes:
        epoch: decides the random keywords, with seed and row; the trainer updates it. Persistent
            data-loader workers (``dataloader_persistent_workers``) do not see a new value.

    Args:
        processor: the model's; TRL's other fields (``max_length``, ``pad_to_multiple_of`` ...) are kept.
        model_config: the model's config: it names the visual tokens, and token boxes of an unknown processor are
            probed from it.
        image_token_id: id of the visual tokens in ``input_ids``, where no config is given.
        options: how key expressions become targets.
        answers_only: put the text loss on the answers (and their end-of-turn marks) of every turn, for chat
            templates without ``{% generation %}`` markers; with markers TRL's ``assistant_only_loss`` does it.
        vision_modeling: False leaves ``vision_labels`` out.
        measure_only: the vision labels are for metrics alone, so that the text keeps all its targets.
        count_unlabelled: whether batches say why rows and expressions label nothing: per row the numbers of
            ``UNLABELLED_REASONS``.

    Raises:
        ValueError: without ``model_config`` or ``image_token_id``; for a background token that the tokenizer does not
            have; and, naming the row, when ``max_length`` cuts image tokens, when its images and visual tokens do not
            match, or when a mask cannot be used.
    """

    image_token_id: int = -1
    options: VisionModelingOptions = field(default_factory=VisionModelingOptions)
    model_config: Any = None
    answers_only: bool = False
    vision_modeling: bool = True
    measure_only: bool = False
    count_unlabelled: bool = False
    epoch: int = 0

    def __post_init__(self) -> None:
        if self.image_token_id < 0 and self.model_config is not None:
            self.image_token_id = image_token_id(self.model_config)
        if self.vision_modeling and self.image_token_id < 0:
            raise ValueError(
                "FiVLCollator needs model_config=model.config (or image_token_id), of a model with visual tokens"
            )
        self._word_ids: dict[str, int | None] = {}
        self._blank_rows: set[str] = set()
        self._background_id = _single_token(self.processor, self.options.background_token)

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate rows; raises ValueError as the class says."""
        rows = [{key: example.get(key) for key in (*EVIDENCE_COLUMNS, "messages")} for example in examples]
        self._warn_of_blank_answers(examples)
        images = [_images(example) for example in examples]
        plain = [
            {k: v for k, v in example.items() if k not in (*EVIDENCE_COLUMNS, "image")} | {"images": row_images}
            for example, row_images in zip(examples, images, strict=True)
        ]
        try:
            batch = super().torch_call(plain)
        except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
            # What processors say of cut image tokens differs, and some fail over their own arithmetic.
            if self._cuts_images(plain):
                raise ValueError(
                    f"max_length ({self.max_length}) cuts off image tokens of a row among "
                    f"{[row['id'] for row in rows]}: raise it or set it to None"
                ) from error
            self._raise_with_row(rows, plain)
            raise
        if self.vision_modeling:
            self._add_vision_labels(batch, rows, images)
        return batch

    def _warn_of_blank_answers(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            if not has_blank_answers(row):
                continue
            name = row_name(row)
            if name not in self._blank_rows and len(self._blank_rows) < _BLANK_ROWS_NAMED:
                self._blank_rows.add(name)
                logger.warning(f"row {name}: all its answers are blank, so it teaches nothing but to stop")

    def _raise_with_row(self, rows: Sequence[Mapping[str, Any]], examples: list[dict[str, Any]]) -> None:
        """Raise ValueError naming the first row that fails alone, too; do nothing if none does."""
        for row, example in zip(rows, examples, strict=True):
            try:
                super().torch_call([dict(example)])
            except Exception as error:
                raise ValueError(f"row {row_name(row)}: {error}") from error

    def _cuts_images(self, examples: list[dict[str, Any]]) -> bool:
        """Return whether image tokens of these examples lie beyond ``max_length``."""
        if self.max_length is None:
            return False
        whole = dataclasses.replace(self, max_length=None, vision_modeling=False)
        try:
            tokens = DataCollatorForVisionLanguageModeling.torch_call(whole, [dict(e) for e in examples])["input_ids"]
        except Exception:
            return False  # something else is wrong, which the caller reports
        return bool((tokens[:, self.max_length :] == self.image_token_id).any())

    def _collate_language_modeling(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.answers_only or "messages" not in examples[0]:
            return super()._collate_language_modeling(examples)
        images = [example["images"] for example in examples]
        encoded = encode(
            self.processor,
            [
                as_blocks(example["messages"], len(row_images))
                for example, row_images in zip(examples, images, strict=True)
            ],
            images,
            template=self.chat_template,
            add_special_tokens=False,
            padding=True,
            padding_side="right",
            pad_to_multiple_of=self.pad_to_multiple_of,
            truncation=self.max_length is not None,
            max_length=self.max_length,
        )
        labels = torch.full_like(encoded.inputs["input_ids"], IGNORE)
        for i, spans in enumerate(encoded.answers):
            for span in spans:
                tokens = span_tokens(encoded.offsets[i], span.start, span.end)
                labels[i, tokens] = encoded.inputs["input_ids"][i, tokens]
        encoded.inputs["labels"] = labels
        return encoded.inputs

    def _add_vision_labels(
        self, batch: dict[str, Any], rows: Sequence[Mapping[str, Any]], images: Sequence[Sequence[Image.Image]]
    ) -> None:
        """Add the keyword of every labelled visual token, and what goes with it, to a batch."""
        input_ids = batch["input_ids"]
        is_image = input_ids == self.image_token_id
        targets = []
        for row, row_images, written in zip(rows, images, is_image.sum(dim=1).tolist(), strict=True):
            targets.append(self._row_targets(row, row_images))
            if len(targets[-1].keyword_ids) != written:
                raise ValueError(
                    f"row {row['id']!r}: {len(targets[-1].keyword_ids)} visual tokens expected for its "
                    f"{len(row_images)} images, {written} found in input_ids. If max_length ({self.max_length}) cut "
                    "them off, raise it or set it to None."
                )
        labels = torch.full_like(input_ids, IGNORE)
        labels[is_image] = torch.from_numpy(np.concatenate([each.keyword_ids for each in targets]))
        batch["vision_labels"] = labels
        if self.options.expression_weight == "score":
            weights = torch.zeros(input_ids.shape)
            weights[is_image] = torch.from_numpy(np.concatenate([each.scores for each in targets])).float()
            batch["vision_weights"] = weights
        if self.count_unlabelled:
            counts = [[each.unlabelled.count(reason) for reason in UNLABELLED_REASONS] for each in targets]
            batch["vision_unlabelled"] = torch.tensor(counts)
        if not self.measure_only:
            # With the loss on every token, a labelled patch would also have to predict what follows it.
            batch["labels"][:, 1:][labels[:, :-1] != IGNORE] = IGNORE

    def _row_targets(self, row: Mapping[str, Any], images: Sequence[Image.Image]) -> "_RowTargets":
        boxes = [
            token_boxes(self.processor, image.size, images=len(images), model_config=self.model_config)
            for image in images
        ]
        expressions, masks = _evidence(row, images)
        if len(masks) != len(expressions):
            raise ValueError(f"row {row['id']!r}: {len(expressions)} key expressions, but {len(masks)} masks")
        image_of = [expression.image for expression in expressions]
        parts = [_mask(row, k, images[image]) for k, image in enumerate(image_of)]
        cover, visible = row_coverage(image_of, parts, boxes)
        if self.options.protocol == "paper":
            expressions = tuple(_named_as_in_the_paper(each, row) for each in expressions)
        ids = np.array([self._keyword_id(e, f"{row['id']}:{k}") for k, e in enumerate(expressions)], dtype=np.int64)
        rules: dict[str, Any] = {
            "visible": visible,
            "totals": [len(boxes[image]) for image in image_of] if self.options.protocol == "paper" else None,
            "max_coverage": self.options.max_coverage,
            "min_coverage": self.options.min_coverage,
        }
        owners = patch_owners(cover, ids != IGNORE, overlap=self.options.overlap, **rules)
        unlabelled = unlabelled_reasons(cover, ids != IGNORE, owners, **rules)
        scores = [1.0 if expression.score is None else expression.score for expression in expressions]
        has_background = float(self._background_id != IGNORE)
        return _RowTargets(
            values_of_owners(owners, ids, self._background_id, IGNORE),
            values_of_owners(owners, scores, has_background, 0.0),
            unlabelled if expressions else [UNLABELLED_REASONS[0]],
        )

    def _keyword_id(self, expression: KeyExpression, name: str) -> int:
        """Return the token to predict; random nouns are drawn again each epoch, the same for any batching."""
        if self.options.keyword == "head":
            word = head_noun(expression.text, expression.keywords)
        else:
            # Of a generator of its own, seeded by the row: a draw does not depend on which rows came before it, in
            # which worker, or on what else draws random numbers.
            draw = random.Random(f"{self.options.seed}:{self.epoch}:{name}")
            word = draw.choice(expression.keywords) if expression.keywords else None
        if word is None:
            return IGNORE
        if word not in self._word_ids:
            self._word_ids[word] = word_token_id(self.processor.tokenizer, word)
        token = self._word_ids[word]
        return IGNORE if token is None else token


@dataclass(frozen=True)
class _RowTargets:
    """The targets of one row's P visual tokens.

    Attributes:
        keyword_ids: (P,) int64, -100 for tokens without a target.
        scores: (P,) of their expressions, 0 for tokens without a target.
        unlabelled: of each expression that labels nothing, why.
    """

    keyword_ids: np.ndarray
    scores: np.ndarray
    unlabelled: list[str]


def row_name(row: Mapping[str, Any]) -> str:
    """Return what to call a row in a message: its id, or how it begins."""
    if row.get("id") is not None:
        return repr(row["id"])
    messages = row.get("messages") or row.get("prompt")
    first = messages if isinstance(messages, str) else message_text((messages or [{"content": ""}])[0])
    return f"without id that begins with {first[:60]!r}"


def _single_token(processor: Any, token: str | None) -> int:
    """Return the id of a token; -100 for none."""
    if token is None:
        return IGNORE
    vocabulary = processor.tokenizer.get_vocab()
    if token not in vocabulary:
        raise ValueError(f"vision_background_token {token!r} is not a token of the tokenizer")
    return vocabulary[token]


def _named_as_in_the_paper(expression: KeyExpression, row: Mapping[str, Any]) -> KeyExpression:
    """Return an expression that was found through the question with the nouns of its answer, as the paper names it."""
    if expression.start >= 0:
        return expression
    answers = [message_text(message) for message in row["messages"] if message["role"] == "assistant"]
    return dataclasses.replace(expression, keywords=nouns(answers[expression.turn], proper=False))


def _evidence(row: Mapping[str, Any], images: Sequence[Image.Image]) -> tuple[tuple[KeyExpression, ...], Sequence[Any]]:
    """Return a row's key expressions, checked, and its masks; none for rows without evidence columns."""
    raw, name = row["key_expressions"] or [], row["id"]
    messages = [{"role": m["role"], "content": message_text(m)} for m in row["messages"] or []]
    turns = conversation_turns(messages, name)[0] if raw and messages else None
    return validate_key_expressions(raw, turns, [image.size for image in images], name), row["masks"] or []


def _mask(row: Mapping[str, Any], k: int, image: Image.Image) -> MaskPart:
    """Return one of the row's masks; an error names the row."""
    try:
        mask = decode_part(row["masks"][k])
    except ImageError as error:
        raise ImageError(f"row {row['id']!r}: masks[{k}]: {error}") from error
    if mask.size != image.size:
        sizes = [f"{width}x{height}" for width, height in (mask.size, image.size)]
        raise ValueError(f"row {row['id']!r}: masks[{k}] is {sizes[0]}, its image {sizes[1]}")
    return mask


def _images(example: Mapping[str, Any]) -> list[Image.Image]:
    """Return the row's images, opened; an error names the row."""
    values = [example["image"]] if "image" in example else example.get("images") or []
    try:
        return [open_rgb(value) for value in values]
    except ImageError as error:
        raise ImageError(f"row {example.get('id')!r}: {error}") from error
