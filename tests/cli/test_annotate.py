import pytest

from fivl_hf.cli.main import main
from fivl_hf.storage import write_dataset


@pytest.fixture
def scenes(tmp_path, rows):
    write_dataset(tmp_path / "scenes", {"train": rows[:4]}, title="S", description="D")
    return tmp_path / "scenes"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--annotator", "../anna"], "an annotator's name has letters"),
        (
            ["--annotator", "anna", "--strategy", "disagreement"],
            "--judgements must be given together",
        ),
        (["--annotator", "anna", "--split", "nothing"], "nothing"),
    ],
)
def test_wrong_input_is_said_before_anything_is_served(scenes, tmp_path, capsys, arguments, message):
    assert main(["annotate", str(scenes), "--output", str(tmp_path / "study"), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "study" / "annotators").exists()


def test_gradio_is_an_extra(scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fivl_hf.cli.page_options.find_spec", lambda name: None)
    assert main(["annotate", str(scenes), "--annotator", "anna", "--output", str(tmp_path / "study")]) == 1
    assert "pip install fivl-hf[ui]" in capsys.readouterr().err
