"""Make ``docs/evidence.md`` and its pictures from the ablations' tables.

python examples/ablations/evidence.py   # `make evidence` makes the tables first
"""

import argparse
import shutil
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from study import RESULTS

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=DOCS, help="folder of evidence.md and evidence/")
    options = parser.parse_args()
    (options.output / "evidence").mkdir(parents=True, exist_ok=True)
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown of our own
    )
    environment.globals.update(table=table, cell=cell, lines_below=lines_below)
    page = environment.get_template("evidence.md.jinja").render()
    (options.output / "evidence.md").write_text(page, encoding="utf-8")
    for picture in sorted(RESULTS.glob("*.png")):
        if f"evidence/{picture.name}" in page:
            shutil.copyfile(picture, options.output / "evidence" / picture.name)
    print(options.output / "evidence.md")


def table(name: str) -> str:
    """Return an ablation's table, as Markdown."""
    return "\n".join(line for line in _text(name).splitlines() if line.startswith("|"))


def lines_below(name: str) -> str:
    """Return what stands below an ablation's table."""
    return _text(name).rpartition("|\n")[2].strip()


def cell(name: str, row: str, column: str) -> str:
    """Return one entry of an ablation's table; raises KeyError for an unknown line or column."""
    header, _, *lines = ([part.strip() for part in line.strip("|").split("|")] for line in table(name).splitlines())
    rows = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
    return rows[row][column]


def _text(name: str) -> str:
    return (RESULTS / f"{name}.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
