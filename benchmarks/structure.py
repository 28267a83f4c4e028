"""Measure the code's structure: loose modules, long files and functions, mirrored tests, comments, start-up time.

python benchmarks/structure.py                      # of this tree
python benchmarks/structure.py --against cdd6b87    # and of another commit, checked out beside it
"""

import argparse
import ast
import io
import json
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def main() -> None:
    """Print the figures of one or two trees, and keep them in results/structure.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default=None, help="a commit to compare with")
    options = parser.parse_args()
    figures = {"now": measured(ROOT)}
    if options.against:
        with tempfile.TemporaryDirectory() as folder:
            other = Path(folder) / "tree"
            subprocess.run(["git", "worktree", "add", "-q", str(other), options.against], check=True, cwd=ROOT)
            try:
                figures = {options.against: measured(other), **figures}
            finally:
                subprocess.run(["git", "worktree", "remove", "--force", str(other)], check=True, cwd=ROOT)
    text = json.dumps(figures, indent=1)
    print(text)
    if options.against:
        (Path(__file__).parent / "results" / "structure.json").write_text(text + "\n", encoding="utf-8")


def measured(root: Path) -> dict[str, Any]:
    """The figures of a tree."""
    package = root / "fivl_hf"
    modules = [path for path in package.rglob("*.py") if not path.name.startswith("__")]
    texts = {path: path.read_text(encoding="utf-8") for path in modules}
    lines = sum(len(text.splitlines()) for text in texts.values())
    mirrored = [(root / "tests" / path.relative_to(package).parent / f"test_{path.name}").is_file() for path in modules]
    return {
        "loose modules": len([path for path in modules if path.parent == package]),
        f"files over {LONGEST_FILE} lines": [
            str(path.relative_to(root)) for path, text in texts.items() if len(text.splitlines()) > LONGEST_FILE
        ],
        f"functions over {LONGEST_FUNCTION} lines": [
            f"{path.relative_to(root)}: {name}" for path, text in texts.items() for name in _long_functions(text)
        ],
        "share of modules with a test file at the mirrored path": round(sum(mirrored) / len(modules), 2),
        "comments per 100 lines": round(100 * sum(map(_comments, texts.values())) / lines, 1),
        "lines": lines,
        "fivl --help, s": _seconds(root, ["-m", "fivl_hf", "--help"]),
        "import fivl_hf, s": round(_seconds(root, ["-c", "import fivl_hf"]) - _seconds(root, ["-c", ""]), 3),
    }


def _long_functions(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield f"{node.name} ({length})"


def _comments(text: str) -> int:
    return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(text).readline))


def _seconds(root: Path, arguments: list[str]) -> float:
    """Return the shortest of three runs."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=root)
        seconds.append(time.perf_counter() - started)
    return round(min(seconds), 3)


if __name__ == "__main__":
    main()
