"""Finding the ``evaluate`` modules, in a clone and after a plain install."""

from pathlib import Path
from typing import Any

from fivl_hf.files.installed import installed_folder

__all__ = ["CITATION", "load_metric", "metric_folders"]

CITATION = """\
@article{aflalo2024fivl, title={FiVL: A Framework for Improved Vision-Language Alignment through the Lens of Training,
Evaluation and Explainability}, author={Aflalo, Estelle and others}, journal={arXiv:2412.14672}, year={2024}}
"""


def metric_folders() -> dict[str, Path]:
    """Name and folder of every ``evaluate`` module of this project."""
    return {path.parent.name: path.parent for path in sorted(installed_folder("metrics").glob("*/README.md"))}


def load_metric(name: str, **kwargs: Any) -> Any:
    """Return the same as ``evaluate.load("metrics/<name>")``, from anywhere and without the Hub.

    Args:
        name: such as ``"visual_reliance_score"``.
        kwargs: passed to :func:`evaluate.load` (``experiment_id``, ``num_process``, ...).

    Raises:
        ValueError: no metric of that name.
    """
    import evaluate

    folders = metric_folders()
    if name not in folders:
        raise ValueError(f"no metric named {name!r}; there are {', '.join(folders)}")
    return evaluate.load(str(folders[name]), **kwargs)
