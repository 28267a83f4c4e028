"""Every snippet of the README and the documentation runs, or, where it needs what is not here, is understood."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from annotated import answer, study_of
from PIL import Image

from fivl_hf.cli.main import _parser, main
from fivl_hf.files.atomic import write_json
from fivl_hf.storage import load_rows

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Links and blocks, with their language.
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What the words of the pages stand for in the tests.
NAMES = {
    "ROWS": "demo/fivl",
    "MODEL": "demo/models/fivl",
    "BASELINE": "demo/models/baseline",
    "photo.jpg": "photo.jpg",
}
# Commands of these words are parsed and not run: they need a network, a key, weights, data of others or an hour, they
# publish, or they serve a page, which the tests of the pages do.
OUTSIDE = {
    "openai": "a key",
    "gpt-4o": "a key",
    "fivl_instruct": "the authors' release",
    "fivl_pope": "POPE's files",
    "convert": "the paper's checkpoint",
    "push": "an account on the Hub",
    "llava-hf/llava-1.5-7b-hf": "weights",
    "annotate": "serves a page",
    "explore": "serves a page",
    "--browse": "serves a page",
    "demo": "takes minutes; tests/demo runs it",
}
# Other commands than fivl's.
OTHERS = ("pip", "export", "make", "python", "inspect", "accelerate")


def blocks(path, *languages):
    return [text for language, text in BLOCK.findall(path.read_text(encoding="utf-8")) if language in languages]


def commands(path):
    """The lines of a page's shell blocks, without comments, split as a shell does."""
    joined = "\n".join(blocks(path, "bash", "sh")).replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.fixture
def workplace(demo, tmp_path, monkeypatch):
    """A folder with what the pages speak of."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").symlink_to(demo)
    for name in ("metrics", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    Image.new("RGB", (64, 48), "red").save("photo.jpg")
    return tmp_path


def annotated(folder):
    """The study that the page about people annotates."""
    study = study_of(folder, load_rows("demo/fivl", "test"), ["anna", "ben"])
    for key in study.items:
        answer(study, "anna", key, "yyy")
        answer(study, "ben", key, "yny")
    write_json(folder / "items.json", [item.to_dict() for item in study.items.values()])


@pytest.mark.parametrize("path", [page for page in PAGES if blocks(page, "python", "bash")], ids=lambda path: path.name)
def test_snippets_run_or_are_understood(path, workplace, capsys):
    """The Python of a page, each snippet alone, as it is pasted, and then its commands."""
    for code in blocks(path, "python"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.strip(), code
    if path.name == "people.md":
        annotated(workplace / "annotations")
    for words in commands(path):
        if words[0] != "fivl":
            assert words[0] in OTHERS, words
            continue
        arguments = [NAMES.get(word, word) for word in words[1:]]
        if set(words) & set(OUTSIDE):
            _parser().parse_args(_with_files(arguments))
            continue
        smaller = _smaller(arguments)
        assert main(smaller) == 0, f"{' '.join(smaller)}: {capsys.readouterr().err}"


def _with_files(arguments):
    """Make the files and folders that a parser wants to see."""
    for before, each in zip(["", *arguments], arguments, strict=False):
        if before in ("--evaluation", "--explanation", "--images", "model", "dataset") and not Path(each).exists():
            Path(each).mkdir()
    return arguments


# What makes a command short, by its name; the splits are those of the demo.
SHORT = {
    "evaluate": ["--split", "test[:12]"],
    "explain": ["--split", "test[:12]"],
    "knockout": ["--split", "test[:12]", "--max-rows", "4"],
    "segment": ["--split", "test[:12]", "--grounder", "scenes"],
    "ground": ["--heads", "0,0"],
    "train": ["--max_steps", "1", "--bf16", "false", "--use_cpu", "--report_to", "none"],
    "agreement": ["--split", "test"],
    "filter": ["--split", "test"],
    "annotations": ["--split", "test"],
}


def _smaller(arguments):
    """The same on few rows; of options given twice, the last counts."""
    if "import" in arguments:
        return arguments
    short = SHORT.get(arguments[0], [])
    return [*arguments, *(["--split", "test"] if "mine" in arguments else short)]


def test_every_exception_is_one():
    shown = {word for page in PAGES for words in commands(page) for word in words}
    assert set(OUTSIDE) - shown == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    """As GitHub shows the pages; the site's own links are checked where it is built."""
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if not link.startswith(("http://", "https://", "#")):
            assert (path.parent / link.partition("#")[0]).exists(), f"{path.name}: {link}"
