"""What holds for the package as a whole."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import fivl_hf

ROOT = Path(fivl_hf.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
CAPABILITIES = ("augment", "training", "evaluation", "explain")


def test_import_is_light():
    code = "import sys, fivl_hf; sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_and_true(name):
    """Sorted as the linter sorts: constants, classes, functions."""
    module = import_module(name)
    kinds = [(0 if n.isupper() else 1 if n[0].isupper() else 2, n) for n in module.__all__]
    assert kinds == sorted(kinds), name
    assert all(hasattr(module, member) for member in module.__all__)


@pytest.mark.parametrize("path", [*ROOT.rglob("*.py"), *(ROOT.parent / "metrics").rglob("*.py")], ids=str)
def test_only_listed_names_are_imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fivl_hf."):
            listed = import_module(node.module).__all__
            assert {alias.name for alias in node.names} <= set(listed), f"{path.name}: {node.module}"


def reached(module, seen):
    """Every module of the package that importing one brings in."""
    if module in seen:
        return seen
    seen.add(module)
    place = ROOT.parent / Path(*module.split("."))
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fivl_hf."):
            reached(node.module, seen)
    return seen


def test_promised_names():
    classes = {"FiVLConfig", "FiVLLlavaForConditionalGeneration", "FiVLTrainer"}
    assert set(fivl_hf.__all__) == classes | {"load_metric", "token_boxes", "vision_modeling_loss"}
    assert all(hasattr(fivl_hf, name) for name in fivl_hf.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fivl_hf.nothing  # noqa: B018


@pytest.mark.parametrize("room", CAPABILITIES)
def test_rooms_do_not_import_each_other(room):
    for module in (name for name in MODULES if name.startswith(f"fivl_hf.{room}.")):
        others = {name.split(".")[1] for name in reached(module, set())} & set(CAPABILITIES)
        assert others <= {room}, module
        assert not {
            name for name in reached(module, set()) if name.startswith(("fivl_hf.building.", "fivl_hf.hub.push"))
        }
