"""What holds for the package as a whole."""

import ast
import subprocess
import sys
from configparser import ConfigParser
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fivl_hf

ROOT = Path(fivl_hf.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_and_true(name):
    """Sorted as the linter sorts: constants, classes, functions."""
    if name.endswith("integrations.inspect_ai"):
        pytest.importorskip("inspect_ai")
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


# Settings, and commands that do nothing themselves; the patch of DTensor needs two processes (training/test_processes).
TESTED_ELSEWHERE = {
    *("augment/inputs/settings.py", "cli/convert.py", "cli/demo.py", "cli/ground.py", "cli/knockout.py"),
    *(
        "cli/grounder_options.py",
        "cli/lmms_eval_path.py",
        "cli/page_options.py",
        "cli/report.py",
        "demo/settings.py",
        "evaluation/answerers/protocol.py",
        "explain/attention.py",
        "explain/knockout_runner.py",
        "files/processes.py",
        "scenes/styles.py",
        "training/sharded.py",
    ),
}


def test_modules_have_a_test_file_at_the_same_path():
    modules = {path.relative_to(ROOT) for path in ROOT.rglob("*.py") if not path.name.startswith("__")}
    tests = Path(__file__).parent
    without = {str(path) for path in modules if not (tests / path.parent / f"test_{path.name}").is_file()}
    assert without == TESTED_ELSEWHERE


def test_promised_names():
    classes = {"FiVLConfig", "FiVLLlavaForConditionalGeneration", "FiVLTrainer"}
    assert set(fivl_hf.__all__) == classes | {"load_metric", "token_boxes", "vision_modeling_loss"}
    assert all(hasattr(fivl_hf, name) for name in fivl_hf.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fivl_hf.nothing  # noqa: B018


GROUND = {"bootstrap", "chat", "files", "images", "keywords", "masks", "models", "schema", "storage", "supervision"}
BELOW = GROUND | {"geometry", "jobs", "llm", "scenes", "show"}
# Which rooms each may import, besides itself and the version in the package's own module.
ARROWS = {
    **dict.fromkeys(GROUND, GROUND),
    "files": set(),
    "geometry": GROUND,
    "jobs": GROUND,
    "llava": GROUND,
    "llm": {"files"},
    "scenes": GROUND,
    "show": GROUND,
    "annotation": GROUND | {"show"},
    "augment": BELOW,
    "building": BELOW - {"llm", "show"} | {"augment"},
    "training": GROUND | {"geometry"},
    "evaluation": GROUND | {"llm", "show"},
    "explain": GROUND | {"geometry", "show"},
    "explore": GROUND | {"evaluation", "explain", "show"},
    "hub": GROUND | {"evaluation", "training"},
    "demo": BELOW - {"geometry", "llm"} | {"augment", "evaluation", "explain", "training"},
    "cli": BELOW
    | {"annotation", "augment", "building", "demo", "evaluation", "explain", "explore", "hub", "llava", "training"},
    "__main__": {"cli"},
}
PATHS = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in ROOT.rglob("*.py")}


def imports(path):
    """The modules of the package that a module imports, those inside functions, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fivl_hf."):
            yield node.module
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("fivl_hf."))


@pytest.mark.parametrize("name", sorted(set(PATHS) - {"fivl_hf.__init__"}))
def test_rooms_are_imported_downwards_only(name):
    room = name.split(".")[1]
    other = {module.split(".")[1] for module in imports(PATHS[name])} - {room}
    assert other <= ARROWS[room], name


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: {m for m in imports(path) if m in PATHS and m != name} for name, path in PATHS.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(PATHS)


def test_the_ground_floor_is_small():
    assert len([path for path in ROOT.glob("*.py") if not path.name.startswith("__")]) <= 8


@pytest.mark.parametrize("code", ["import fivl_hf.cli.main as m; m._parser()", "import fivl_hf"])
def test_help_and_import_are_light(code):
    heavy = "{'datasets', 'numpy', 'PIL', 'torch', 'transformers'}"
    code += f"; import sys; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def declared(leave_out=()):
    """The distributions that setup.cfg names, without those of some extras."""
    setup = ConfigParser()
    setup.read(ROOT.parent / "setup.cfg")
    extras = setup["options.extras_require"]
    lines = [setup["options"]["install_requires"], *(extras[name] for name in extras if name not in leave_out)]
    return {canonicalize_name(Requirement(line).name) for text in lines for line in text.split("\n") if line.strip()}


@pytest.mark.parametrize(
    ("folders", "leave_out"),
    [(("fivl_hf", "metrics", "dataset_builders"), ("dev",)), (("tests", "benchmarks", "examples"), ())],
)
def test_every_import_is_declared(folders, leave_out):
    owners, known = packages_distributions(), declared(leave_out)
    own = {"fivl_hf", *(path.stem for name in folders for path in (ROOT.parent / name).rglob("*.py"))}
    for path in (path for name in folders for path in (ROOT.parent / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in {str(each).split(".")[0] for each in names} - own - sys.stdlib_module_names:
                # An optional package that is not installed has its distribution's name.
                found = {canonicalize_name(each) for each in owners.get(name, [name])}
                assert found & known, f"{path.relative_to(ROOT.parent)}: {name}"
