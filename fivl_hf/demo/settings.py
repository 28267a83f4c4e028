"""The settings on which the demo's results depend."""

from dataclasses import dataclass

__all__ = ["MODELS", "STYLE", "DemoSettings"]

# Of the scenes, see fivl_hf.scenes.styles.
STYLE = "free"

# Vision Modeling's weight in each of the two models that are compared.
MODELS = {"baseline": 0.0, "fivl": 0.1}


@dataclass(frozen=True)
class DemoSettings:
    """Sizes and seed of a demo run; the defaults take about seven minutes on two cores."""

    seed: int = 0
    steps: int = 400
    train_rows: int = 10_000
    validation_rows: int = 200
    test_rows: int = 500
    batch_size: int = 64
    learning_rate: float = 2e-3

    def of_dataset(self) -> dict[str, int]:
        """Return the part that the scenes depend on."""
        return {name: vars(self)[name] for name in ("seed", "train_rows", "validation_rows", "test_rows")}
