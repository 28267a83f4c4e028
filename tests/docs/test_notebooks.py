"""The notebooks run, with fewer steps than they show."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"
# What takes minutes, and what is run in its place.
SMALLER = {
    "STEPS = 250": "STEPS = 4",
    "ROWS = 4000": "ROWS = 200",
    # The demo of the tests, made by the same command with fewer steps, is in the working directory.
    "!fivl demo --steps 200 --output demo 2>/dev/null | tail -3": "",
}


@pytest.mark.parametrize("name", ["data", "training", "evaluation_and_explanation"])
def test_a_notebook_runs(name, demo, tmp_path, monkeypatch):
    (tmp_path / "demo").symlink_to(demo)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    shown = "".join(cell.source for cell in notebook.cells)
    wanted = {"training": 2, "evaluation_and_explanation": 1}.get(name, 0)
    assert sum(before in shown for before in SMALLER) == wanted
    for cell in notebook.cells:
        for before, after in SMALLER.items():
            cell.source = cell.source.replace(before, after)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_committed_as_it_ran(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
