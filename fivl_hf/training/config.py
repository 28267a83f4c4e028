"""Options of Vision Modeling, beside all of TRL's."""

from dataclasses import dataclass, field
from numbers import Real

from trl import SFTConfig

__all__ = ["FiVLConfig", "VisionModelingOptions"]

_OVERLAPS = ("first", "smallest")
_KEYWORDS = ("random", "head")


@dataclass(frozen=True)
class VisionModelingOptions:
    """How key expressions become targets; see :class:`FiVLConfig` for each field."""

    max_coverage: float = 0.3
    min_coverage: float = 0.0
    overlap: str = "first"
    keyword: str = "random"
    seed: int = 0


@dataclass
class FiVLConfig(SFTConfig):
    """:class:`trl.SFTConfig` plus the options of Vision Modeling (PAPER.md section 2).

    Raises:
        ValueError: an option out of its range, named with what was expected.
    """

    vision_loss_weight: float = field(
        default=0.1,
        metadata={
            "help": "λ, 0 to 1: the weight of the vision loss; the language loss weighs 1 − λ. 0 trains as SFTTrainer."
        },
    )
    vision_max_coverage: float = field(
        default=0.3,
        metadata={"help": "Masks that cover more than this share of their image's visible patches supervise nothing."},
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
    assistant_only_loss: bool = field(
        default=True,
        metadata={
            "help": "Whether the text loss of rows with `images` and `messages` is on the answers only, whatever their "
            "chat template. Prompt-completion rows follow `completion_only_loss`. TRL's own default is False."
        },
    )

    def __post_init__(self) -> None:
        for name in ("vision_loss_weight", "vision_max_coverage", "vision_min_coverage"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 <= float(value) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {value}")
        for name, choices in (("vision_overlap", _OVERLAPS), ("vision_keyword", _KEYWORDS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        super().__post_init__()

    def vision_options(self) -> VisionModelingOptions:
        """The part of these options that the collator needs."""
        return VisionModelingOptions(
            max_coverage=self.vision_max_coverage,
            min_coverage=self.vision_min_coverage,
            overlap=self.vision_overlap,
            keyword=self.vision_keyword,
            seed=self.data_seed if self.data_seed is not None else self.seed,
        )
