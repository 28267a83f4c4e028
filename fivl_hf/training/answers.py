"""Putting the text loss on the answers: TRL's way where it has one, through the rendered text elsewhere."""

from typing import Any

from transformers.utils import logging
from trl.chat_template_utils import (
    get_training_chat_template,
    has_generation_markers,
    is_chat_template_stop_token_trained,
)

from fivl_hf.chat import ends_turns

__all__ = ["answer_masking", "marks_answers"]

logger = logging.get_logger(__name__)


def marks_answers(processor: Any) -> bool:
    """Whether TRL can tell answers from prompts: by the template's markers, or by its own template for the family."""
    if processor is None or has_generation_markers(processor.chat_template):
        return processor is not None
    try:
        return get_training_chat_template(processor) is not None
    except ValueError:
        return False


def answer_masking(processor: Any) -> dict[str, Any]:
    """Collator fields that put the loss on the answers: TRL's way where it has one, through the text elsewhere."""
    fields: dict[str, Any] = {"answers_only": True}
    if marks_answers(processor):
        marked = has_generation_markers(processor.chat_template)
        template = None if marked else get_training_chat_template(processor)
        fields = {"assistant_only_loss": True, "chat_template": template}
        stops = is_chat_template_stop_token_trained(processor, chat_template=template)
    else:
        stops = ends_turns(processor)
    if not stops:
        logger.warning(
            "The chat template writes no end-of-turn mark that counts as part of an answer, so the model does not "
            "learn to stop. Add one to the template (the tokenizer's eos_token, say) if it should."
        )
    return fields
