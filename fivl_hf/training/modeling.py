"""LLaVA whose own ``forward`` computes the Vision Modeling loss, for ``transformers.Trainer`` and own loops."""

from typing import Any

import torch
from transformers import Cache, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.llava.modeling_llava import LlavaCausalLMOutputWithPast
from transformers.utils import can_return_tuple

from fivl_hf.training.targets import IGNORE, require_share, vision_modeling_loss

__all__ = ["FiVLLlavaForConditionalGeneration"]


class FiVLLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """:class:`~transformers.LlavaForConditionalGeneration` that also takes ``vision_labels``.

    Checkpoints are plain LLaVA checkpoints: the same weights, ``model_type`` and ``architectures``, so they load
    without this package, and plain ones load here. By its ``__name__`` it is LLaVA, too: see below the class.

    Args:
        config: LLaVA's.
        vision_loss_weight: λ, 0 to 1, kept as ``config.vision_loss_weight``; 0.1 where neither says otherwise.
            ``from_pretrained(..., vision_loss_weight=0.1)`` passes it on.

    Example::

        model = FiVLLlavaForConditionalGeneration.from_pretrained("llava-hf/llava-1.5-7b-hf", vision_loss_weight=0.1)
        batch = FiVLCollator(processor, model_config=model.config, answers_only=True)(rows)
        model(**batch).loss.backward()

    Raises:
        ValueError: λ outside 0 to 1.
    """

    def __init__(self, config: LlavaConfig, vision_loss_weight: float | None = None) -> None:
        weight = getattr(config, "vision_loss_weight", 0.1) if vision_loss_weight is None else vision_loss_weight
        config.vision_loss_weight = require_share("vision_loss_weight", weight)
        super().__init__(config)

    # LLaVA's own parameters come first and by name: ``generate`` reads them, and positional callers count on them.
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        image_sizes: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        vision_labels: torch.Tensor | None = None,
        vision_weights: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> tuple | LlavaCausalLMOutputWithPast:
        """Run LLaVA's forward, and with ``vision_labels`` return the loss of both tasks.

        All parameters but these are LLaVA's.

        Args:
            labels: (B, T) next-token labels, unshifted, -100 where ignored.
            vision_labels: (B, T) keyword ids at image positions, -100 elsewhere, as
                :class:`~fivl_hf.training.collator.FiVLCollator` makes them.
            vision_weights: (B, T) weights of these, where the collator gives some.
            num_items_in_batch: text targets of the whole optimizer step, as ``Trainer`` passes it. Trainer does not
                count vision targets, so under gradient accumulation each micro-batch's mean vision loss counts by
                its share of the text targets, and one without text for nothing
                (:class:`~fivl_hf.FiVLTrainer` counts both).

        Raises:
            ValueError: ``vision_labels`` with ``logits_to_keep``: they need the logits of every position.
        """
        kwargs |= {
            "input_ids": input_ids,
            "pixel_values": pixel_values,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "inputs_embeds": inputs_embeds,
            "vision_feature_layer": vision_feature_layer,
            "vision_feature_select_strategy": vision_feature_select_strategy,
            "logits_to_keep": logits_to_keep,
            "image_sizes": image_sizes,
            "mm_encoder_outputs": mm_encoder_outputs,
        }
        if vision_labels is None:
            if labels is not None:
                kwargs |= {"labels": labels, "num_items_in_batch": num_items_in_batch}
            return super().forward(**kwargs, return_dict=True)
        if not isinstance(logits_to_keep, int) or logits_to_keep:
            raise ValueError("vision_labels need the logits of every position: leave logits_to_keep at 0")
        outputs = super().forward(**kwargs, return_dict=True)
        if labels is None:
            labels = torch.full_like(vision_labels, IGNORE)
        loss = self._joint_loss(outputs.logits, labels, vision_labels, vision_weights, num_items_in_batch)
        # Made again, so that the loss comes first in a tuple.
        return LlavaCausalLMOutputWithPast(**{**outputs, "loss": loss})

    def _joint_loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        vision_labels: torch.Tensor,
        vision_weights: torch.Tensor | None,
        num_items_in_batch: torch.Tensor | int | None,
    ) -> torch.Tensor:
        loss = vision_modeling_loss(
            logits,
            labels,
            vision_labels,
            vision_loss_weight=self.config.vision_loss_weight,
            vision_weights=vision_weights,
        )
        if num_items_in_batch is not None:
            items = torch.as_tensor(num_items_in_batch, device=loss.device)
            # A step without any text is the vision loss alone.
            text = (labels[:, 1:] != IGNORE).sum()
            loss = loss * torch.where(items > 0, text / items.clamp(min=1), 1.0)
        return loss

    @classmethod
    def is_custom_code(cls) -> bool:
        """Return False, so that transformers initialises weights missing from a checkpoint as LLaVA's."""
        return False


# transformers goes by the name of a class for a checkpoint's architecture, the mapping of its weights' names and the
# pipelines that take it. In all of that this one is LLaVA; pickle goes by the qualified name, which stays.
FiVLLlavaForConditionalGeneration.__name__ = LlavaForConditionalGeneration.__name__
