"""Measure the code's structure: loose modules, long files and functions, mirrored tests, comments, start-up time."""

import ast
import io
import json
import subprocess
import sys
import time
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fivl_hf"
LONGEST_FILE, LONGEST_FUNCTION = 400, 60


def main() -> None:
    """Print the figures as JSON."""
    modules = [path for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")]
    texts = {path: path.read_text(encoding="utf-8") for path in modules}
    lines = sum(len(text.splitlines()) for text in texts.values())
    figures = {
        "loose modules": len([path for path in modules if path.parent == PACKAGE]),
        f"files over {LONGEST_FILE} lines": [
            str(path.relative_to(ROOT)) for path, text in texts.items() if len(text.splitlines()) > LONGEST_FILE
        ],
        f"functions over {LONGEST_FUNCTION} lines": [
            f"{path.relative_to(ROOT)}: {name}" for path, text in texts.items() for name in _long_functions(text)
        ],
        "share of modules with a test file at the mirrored path": round(
            sum(_mirrored(path) for path in modules) / len(modules), 2
        ),
        "comments per 100 lines": round(100 * sum(map(_comments, texts.values())) / lines, 1),
        "lines": lines,
        "fivl --help, s": _seconds(["-m", "fivl_hf", "--help"]),
        "import fivl_hf, s": round(_seconds(["-c", "import fivl_hf"]) - _seconds(["-c", ""]), 3),
    }
    print(json.dumps(figures, indent=1))


def _long_functions(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield f"{node.name} ({length})"


def _mirrored(path: Path) -> bool:
    place = path.relative_to(PACKAGE)
    return (ROOT / "tests" / place.parent / f"test_{place.name}").is_file()


def _comments(text: str) -> int:
    return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(text).readline))


def _seconds(arguments: list[str]) -> float:
    """Return the shortest of three runs."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT)
        seconds.append(time.perf_counter() - started)
    return round(min(seconds), 3)


if __name__ == "__main__":
    main()
