"""Settings for the input of a run of augmentation."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FORMATS", "InputSettings"]

FORMATS = ("llava", "dataset", "pope", "vqa", "gqa", "scenes")


@dataclass(frozen=True)
class InputSettings:
    """The input of a run: its files or dataset, and the number of samples.

    Attributes:
        input: a file, a dataset's folder or Hub id, or ``"scenes"``.
        images: folders in which the images that a file names are looked for, in order.
        format: one of ``FORMATS``; None to find out.
        answers: VQA v2's annotations file, which goes with its questions file.
        split, config: of a dataset; scenes have their style for a configuration.
        limit: number of samples to read: the first ones, or a random choice of the whole input if there is a seed.
        seed: of the choice, and of scenes.
        rename: give samples with an id that was there already a new one; if not, they come with the id they have.
    """

    input: str
    images: tuple[Path, ...] = ()
    format: str | None = None
    answers: Path | None = None
    split: str = "train"
    config: str | None = None
    limit: int | None = None
    seed: int | None = None
    rename: bool = True
