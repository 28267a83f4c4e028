import pytest

from fivl_hf.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["no-such/./folder", "rows"], "no-such/./folder"), (["MODEL", "no-such/rows"], "no-such/rows")],
)
def test_what_is_not_there_is_named(arguments, message, tmp_path, capsys):
    named = [str(tmp_path) if each == "MODEL" else each for each in arguments]
    assert main(["explore", *named]) == 1
    assert message in capsys.readouterr().err
