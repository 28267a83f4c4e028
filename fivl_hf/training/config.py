"""Options of Vision Modeling, beside all of TRL's."""

import copy
from dataclasses import dataclass, field, fields
from math import ceil
from numbers import Real
from typing import Any

from transformers import TrainingArguments
from trl import SFTConfig

from fivl_hf.supervision import LARGEST_MASK
from fivl_hf.training.targets import require_share

__all__ = ["FiVLConfig", "VisionModelingOptions", "as_fivl_config"]

_CHOICES = {
    "vision_protocol": ("default", "paper"),
    "vision_overlap": ("first", "smallest"),
    "vision_keyword": ("random", "head"),
    "vision_expression_weight": ("equal", "score"),
    "vision_loss_schedule": ("constant", "linear", "cosine"),
}


@dataclass(frozen=True)
class VisionModelingOptions:
    """The rules by which key expressions become targets; :class:`FiVLConfig` explains each field."""

    protocol: str = "default"
    max_coverage: float = LARGEST_MASK
    min_coverage: float = 0.0
    overlap: str = "first"
    keyword: str = "random"
    expression_weight: str = "equal"
    background_token: str | None = None
    seed: int = 0


@dataclass
class FiVLConfig(SFTConfig):
    """:class:`trl.SFTConfig` plus the options of Vision Modeling (arXiv 2412.14672).

    Example::

        FiVLConfig(output_dir="llava-fivl", vision_loss_weight=0.1, vision_keyword="head", learning_rate=2e-5)

    Raises:
        ValueError: an option out of its range, named with what was expected.
    """

    vision_loss_weight: float = field(
        default=0.1,
        metadata={
            "help": "λ, 0 to 1: the weight of the vision loss; the language loss weighs 1 − λ. 0 trains as SFTTrainer."
        },
    )
    vision_protocol: str = field(
        default="default",
        metadata={
            "help": "'paper' takes the share that a mask covers over all visual tokens of its image, padding included, "
            "as FiVL's code does, and refuses options that depart from it; 'default' takes it over the visible ones."
        },
    )
    vision_max_coverage: float = field(
        default=LARGEST_MASK,
        metadata={
            "help": "Masks that cover more than this share of their image's patches supervise nothing; "
            "vision_protocol says which patches count."
        },
    )
    vision_min_coverage: float = field(
        default=0.0,
        metadata={"help": "A patch belongs to a mask when its coverage is greater than this."},
    )
    vision_overlap: str = field(
        default="first",
        metadata={"help": "Who keeps a patch several expressions claim: 'first' (the paper) or 'smallest' mask."},
    )
    vision_keyword: str = field(
        default="random",
        metadata={
            "help": "The noun to predict: a 'random' one of the expression at each draw (the paper) or its 'head'."
        },
    )
    vision_expression_weight: str = field(
        default="equal",
        metadata={
            "help": "Weight of an expression's patches: all 'equal' (the paper), or its detector 'score' (1 where it "
            "has none)."
        },
    )
    vision_background_token: str | None = field(
        default=None,
        metadata={
            "help": "Token that patches under no mask are to predict, in images that have masks, such as Llama 3's "
            "'<|reserved_special_token_0|>'. By default they are ignored, as in the paper."
        },
    )
    vision_loss_schedule: str = field(
        default="constant",
        metadata={"help": "λ after its warm-up: 'constant', or 'linear' or 'cosine' down to 0 at the end."},
    )
    vision_loss_warmup_steps: float = field(
        default=0,
        metadata={"help": "Optimizer steps over which λ rises linearly from 0; below 1, their share of all steps."},
    )
    vision_eval_metrics: bool = field(
        default=False,
        metadata={
            "help": "Measure vision_loss, vision_token_accuracy and labelled_patches in evaluations also with "
            "vision_loss_weight=0, to compare a baseline. It takes a second forward pass."
        },
    )
    assistant_only_loss: bool = field(
        default=True,
        metadata={
            "help": "Whether the text loss of conversations is on the answers only; with images, whatever their chat "
            "template, without images where the template marks answers. Prompt-completion rows with images follow "
            "`completion_only_loss`. TRL's own default is False."
        },
    )

    def __post_init__(self) -> None:
        for name in ("vision_loss_weight", "vision_max_coverage", "vision_min_coverage"):
            require_share(name, getattr(self, name))
        warmup = self.vision_loss_warmup_steps
        if not isinstance(warmup, Real) or not (0 <= warmup < 1 or warmup == int(warmup) > 0):
            raise ValueError(
                f"vision_loss_warmup_steps must be a number of steps, or a share of all steps below 1, got {warmup!r}"
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        if self.vision_protocol == "paper":
            self._require_papers_options()
        super().__post_init__()

    def _require_papers_options(self) -> None:
        """Refuse options that depart from the paper; λ may be any, for its ablation."""
        papers = {
            "vision_max_coverage": LARGEST_MASK,
            "vision_min_coverage": 0.0,
            "vision_overlap": "first",
            "vision_keyword": "random",
            "vision_expression_weight": "equal",
            "vision_background_token": None,
            "vision_loss_schedule": "constant",
            "vision_loss_warmup_steps": 0,
        }
        others = [f"{name}={getattr(self, name)!r}" for name, value in papers.items() if getattr(self, name) != value]
        if others:
            raise ValueError(
                f"vision_protocol='paper' excludes {', '.join(others)}: leave them at their defaults, or use "
                "vision_protocol='default'"
            )

    def vision_warmup(self, steps: int) -> int:
        """Return the steps of λ's warm-up in a run of ``steps`` steps."""
        warmup = self.vision_loss_warmup_steps
        return ceil(steps * warmup) if warmup < 1 else int(warmup)

    def vision_options(self) -> VisionModelingOptions:
        """Return the part of these options that the collator needs."""
        return VisionModelingOptions(
            protocol=self.vision_protocol,
            max_coverage=self.vision_max_coverage,
            min_coverage=self.vision_min_coverage,
            overlap=self.vision_overlap,
            keyword=self.vision_keyword,
            expression_weight=self.vision_expression_weight,
            background_token=self.vision_background_token,
            seed=self.data_seed if self.data_seed is not None else self.seed,
        )


def _documented(config: type[FiVLConfig]) -> str:
    """Return the class's docstring, extended by the help texts of its options."""
    lines = [
        f"        {option.name}: {option.metadata['help']} Default: {option.default!r}."
        for option in fields(config)
        if option.name.startswith("vision_") or option.name == "assistant_only_loss"
    ]
    return f"{config.__doc__}\n    Args:\n" + "\n".join(lines) + "\n        All others are those of SFTConfig.\n    "


# One text for `help(FiVLConfig)` and for the command line.
FiVLConfig.__doc__ = _documented(FiVLConfig)


def as_fivl_config(args: SFTConfig | TrainingArguments | None, model: Any) -> FiVLConfig:
    """Return a FiVLConfig that a trainer may change: a copy, or the options of another kind with our defaults."""
    if isinstance(args, FiVLConfig):
        return copy.copy(args)
    if args is None:
        name = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "")
        return FiVLConfig(f"{str(name).rstrip('/').split('/')[-1] or 'model'}-FiVL")
    # to_dict() hides every ..._token, also those that are not secret.
    hidden = {name: getattr(args, name) for name in args.to_dict() if name.endswith("_token")}
    return FiVLConfig(**{**args.to_dict(), **hidden})
