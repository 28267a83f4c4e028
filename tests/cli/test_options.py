import argparse

import pytest

from fivl_hf.cli.options import (
    HelpFormatter,
    count,
    existing_file,
    existing_folder,
    folder,
    head_position,
    positive,
    share,
    word,
)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (positive, "1", 1),
        (count, "0", 0),
        (share, "0.3", 0.3),
        (head_position, "14,11", (14, 11)),
        (word, " ring ", "ring"),
    ],
)
def test_values(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (positive, "0", "must be at least 1, got 0"),
        (count, "-1", "must be at least 0, got -1"),
        (share, "1.5", "must be from 0 to 1, got 1.5"),
        (share, "nan", "must be from 0 to 1, got nan"),
        (head_position, "14", "LAYER,HEAD such as 14,11, got '14'"),
        (word, "  ", "a word is needed"),
        (existing_file, "nowhere.json", "there is no file nowhere.json"),
        (existing_folder, "nowhere", "there is no folder nowhere"),
    ],
)
def test_wrong_values_are_named(read, text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        read(text)


def test_an_output_folder_may_be_new_but_not_a_file(tmp_path):
    assert folder(str(tmp_path / "new")) == tmp_path / "new"
    (tmp_path / "file").write_text("")
    with pytest.raises(argparse.ArgumentTypeError, match="exists and is not a folder"):
        folder(str(tmp_path / "file"))


def test_help_shows_defaults_where_there_are_any(capsys):
    parser = argparse.ArgumentParser(formatter_class=HelpFormatter)
    parser.add_argument("--sample", type=positive, default=12, help="rows")
    parser.add_argument("--row", default=None, help="a row")
    parser.print_help()
    shown = capsys.readouterr().out
    assert "rows (default: 12)" in shown
    assert "a row (default" not in shown
