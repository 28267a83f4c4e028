"""Opening the page of ``fivl explore``: models, questions, and the head to begin with."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fivl_hf.explain.knockout import Head, require_heads
from fivl_hf.explore.examples import aligned_head, choose_examples, with_notes
from fivl_hf.explore.explorer import Explorer
from fivl_hf.explore.page import explorer_page
from fivl_hf.models import load_model
from fivl_hf.storage import load_rows

__all__ = ["open_explorer"]


def open_explorer(
    models: Sequence[str | Path],
    dataset: str | Path,
    *,
    split: str = "test",
    config: str | None = None,
    examples: int = 12,
    head: Head | None = None,
    seed: int = 0,
    device: str | None = None,
    dtype: str = "auto",
) -> Any:
    """Load models and questions, and return the page (a ``gradio.Blocks``).

    Args:
        models: folders or Hub ids; one, or two to compare.
        dataset, split, config: row dataset.
        examples: questions of the dataset to begin with; two are marked by what the first model does without evidence.
        head: (layer, head) whose attention is shown first; of the first model, the one that agrees best with the
            examples' masks if not given.
        seed: of the draw.

    Raises:
        ValueError: no dataset or model, or a head that the model does not have.
    """
    rows = load_rows(dataset, split, config)
    explorers = []
    for name in models:
        model, processor = load_model(name, device=device, dtype=dtype)
        explorers.append(Explorer(model, processor, Path(name).resolve().name if Path(name).is_dir() else str(name)))
    if head:
        require_heads(explorers[0].model, [head])
    chosen = choose_examples(rows, examples, seed)
    noted = with_notes(explorers[0], chosen, partial(tqdm, desc="Asking", unit="question"))
    aligned = 0
    if not head and noted:
        ids = [each.id for each in noted]
        head = aligned_head(explorers[0], rows, ids, partial(tqdm, desc="Looking for heads", unit="row"))
        aligned = len(noted) if head else 0
    return explorer_page(explorers, noted, head, aligned)
