"""Putting the text loss on the answers: TRL's way where it has one, through the rendered text elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoProcessor
from transformers.utils import logging
from trl import SFTConfig
from trl.chat_template_utils import (
    get_training_chat_template,
    has_generation_markers,
    is_chat_template_stop_token_trained,
)

from fivl_hf.chat import ends_turns, message_text

__all__ = ["answer_masking", "has_blank_answers", "marks_answers", "processor_of"]

logger = logging.get_logger(__name__)


def has_blank_answers(row: Mapping[str, Any]) -> bool:
    """Return whether a conversation, or a completion, has answers, all of them blank; tool calls are not blank."""
    messages = row.get("completion") or row.get("messages") or []
    if isinstance(messages, str):
        return not messages.strip()
    answers = [message for message in messages if message["role"] == "assistant"]
    return bool(answers) and not any(message_text(each).strip() or each.get("tool_calls") for each in answers)


def processor_of(model: Any, config: SFTConfig) -> Any:
    """Load the processor or tokenizer that TRL takes when it is given none."""
    name = model if isinstance(model, str) else model.config._name_or_path
    options = config.model_init_kwargs if isinstance(config.model_init_kwargs, dict) else {}
    revision = options.get("revision") if isinstance(model, str) else None
    return AutoProcessor.from_pretrained(name, revision=revision, trust_remote_code=config.trust_remote_code)


def marks_answers(processor: Any, config: SFTConfig | None = None) -> bool:
    """Return whether TRL can tell answers from prompts, by the template's markers or its own template.

    Args:
        config: may name another template, which TRL then takes.
    """
    path = config.chat_template_path if config else None
    if path:
        own = Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None
        return has_generation_markers(own if own is not None else AutoProcessor.from_pretrained(path).chat_template)
    if has_generation_markers(processor.chat_template):
        return True
    try:
        return get_training_chat_template(processor) is not None
    except ValueError:
        return False


def answer_masking(processor: Any) -> dict[str, Any]:
    """Return the collator's fields that put the loss on the answers: TRL's way where it has one."""
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
