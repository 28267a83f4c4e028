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
    module = import_module(name)
    if name in ("fivl_hf.cli",):
        assert module.__all__ == ["main"]
    assert module.__all__ == sorted(module.__all__), name
    assert all(hasattr(module, member) for member in module.__all__)


def test_promised_names():
    assert set(fivl_hf.__all__) == {"FiVLConfig", "FiVLLlavaForConditionalGeneration", "FiVLTrainer", "load_metric"}
    assert all(hasattr(fivl_hf, name) for name in fivl_hf.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fivl_hf.nothing  # noqa: B018


@pytest.mark.parametrize("room", CAPABILITIES)
def test_rooms_do_not_import_each_other(room):
    for path in (ROOT / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fivl_hf."):
                target = node.module.split(".")[1]
                assert target == room or target not in CAPABILITIES, f"{path}: {node.module}"
