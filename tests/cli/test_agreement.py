import json

import pytest
from annotated import answer, study_of

from fivl_hf.cli.main import main
from fivl_hf.storage import load_rows, write_dataset


@pytest.fixture
def annotated(tmp_path, rows):
    """A dataset folder and a study of six of its expressions."""
    write_dataset(tmp_path / "scenes", {"train": rows}, title="S", description="D")
    study = study_of(tmp_path / "study", load_rows(tmp_path / "scenes", "train"))
    for key in study.items:
        answer(study, "anna", key, "yyy")
        answer(study, "ben", key, "yny")
    (tmp_path / "study" / "items.json").write_text(json.dumps([item.to_dict() for item in study.items.values()]))
    return [str(tmp_path / "scenes"), "--annotations", str(tmp_path / "study")]


def test_agreement_prints_shares_and_writes_the_page(annotated, tmp_path, capsys):
    assert main(["agreement", *annotated, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "6 expressions, 2 annotators; answers: yes/no/unsure" in printed
    assert "mask is right:              100%" in printed
    assert "expression is significant:  – (n 0, 6 undecided; answers 6/6/0)" in printed
    assert "What people say of scenes" in (tmp_path / "out" / "agreement.html").read_text()


def test_filter_counts_what_it_does(annotated, tmp_path, capsys):
    clean = str(tmp_path / "clean")
    assert main(["filter", *annotated, "--keep", "not-bad", "--output", clean]) == 0
    assert "rows kept: 24" in capsys.readouterr().out
    assert len(load_rows(clean, "train")) == 24
    assert main(["filter", *annotated, "--output", annotated[0]]) == 1
    assert "name another folder" in capsys.readouterr().err
    # Everything is disputed, and nothing good.
    assert main(["filter", *annotated, "--output", str(tmp_path / "good")]) == 1
    assert "there are no rows to write" in capsys.readouterr().err


def test_annotations_there_and_back(annotated, tmp_path, capsys):
    export = ["annotations", "export", *annotated]
    assert main(export) == 1
    assert "name what to write" in capsys.readouterr().err
    csv, argilla = tmp_path / "a.csv", tmp_path / "argilla"
    assert main([*export, "--csv", str(csv), "--argilla", str(argilla)]) == 0
    assert len(json.loads((argilla / "records.json").read_text())) == 6
    assert main(["annotations", "import", str(csv), "--output", str(tmp_path / "back")]) == 0
    assert "anna: 6 expressions" in capsys.readouterr().out
    assert main(["annotations", "import", str(csv), "--name", "1=x", "--output", str(tmp_path / "b")]) == 1
    assert "a CSV file has a column for annotators" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["annotations", "import", str(csv), "--name", "x", "--output", str(tmp_path / "b")])
    assert "ID=NAME, got 'x'" in capsys.readouterr().err
    assert main([*export[:3], "--annotations", str(tmp_path / "back"), "--argilla", str(tmp_path / "c")]) == 1
    assert "needs the folder of a study" in capsys.readouterr().err
