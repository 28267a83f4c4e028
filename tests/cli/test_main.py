import re

import pytest

from fivl_hf.cli.main import main
from fivl_hf.files.locks import locked

WRONG = [
    (
        ["evaluate", "--model", "MODEL", "--dataset", "/no/such/set", "--output", "OUT"],
        "no dataset folder '/no/such/set'",
    ),
    (
        ["evaluate", "--model", "/no/such/model", "--dataset", "DATA", "--output", "OUT"],
        "no model folder '/no/such/model'",
    ),
    (["explain", "--model", "MODEL", "--dataset", "DATA", "--output", "OUT", "--head", "9,9"], "counted from 0"),
    (["evaluate", "--model", "MODEL", "--dataset", "DATA", "--split", "dev", "--output", "OUT"], "dev"),
    (["evaluate", "--model", "MODEL", "--dataset", "MODEL", "--output", "OUT"], ""),
    (["evaluate", "--model", "MODEL", "--dataset", "nope/nada", "--output", "OUT"], "nope/nada"),
    (["evaluate", "--model", "foo/bar", "--dataset", "DATA", "--output", "OUT"], "foo/bar"),
    (["evaluate", "--model", "MODEL", "--dataset", "DATA", "--output", "OUT", "--device", "xyz"], "device 'xyz'"),
    (["evaluate", "--model", "MODEL", "--dataset", "DATA", "--output", "OUT", "--dtype", "float99"], "'float99'"),
    (["demo", "--output", "DATA"], "not a demo's folder"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_mistakes_are_one_clear_message(demo, scenes_folder, tmp_path, capsys, arguments, message):
    places = {"MODEL": str(demo / "models" / "fivl"), "DATA": str(scenes_folder), "OUT": str(tmp_path / "out")}
    assert main([places.get(argument, argument) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert any(line.startswith("fivl: ") and message in line for line in error.splitlines())
    assert "Traceback" not in error


LONG = {
    "demo": ["--steps", "3"],
    "evaluate": ["--model", "MODEL", "--dataset", "DATA"],
    "explain": ["--model", "MODEL", "--dataset", "DATA"],
    "judge": ["--dataset", "DATA", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"],
    "train": ["--model_name_or_path", "MODEL", "--dataset_name", "DATA", "--bf16", "false", "--use_cpu"],
}


@pytest.mark.parametrize("command", LONG)
def test_a_second_process_in_one_folder_is_told_at_once_who_is_there(command, demo, scenes_folder, tmp_path, capsys):
    places = {"MODEL": str(demo / "models" / "fivl"), "DATA": str(scenes_folder)}
    output = "--output_dir" if command == "train" else "--output"
    out = tmp_path / "out"
    out.mkdir()
    (out / ".fivl-demo").touch()
    with locked(out):
        before = sorted(out.rglob("*"))
        arguments = [places.get(each, each) for each in LONG[command]]
        assert main([command, *arguments, output, str(out)]) == 1
        assert sorted(out.rglob("*")) == before
    error = capsys.readouterr().err
    assert re.search(rf"fivl: {out} is in use by `.*` \(process \d+ on .*, since ", error)


@pytest.mark.parametrize("command", ["demo", "evaluate", "explain", "train"])
def test_help_explains(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    assert exit.value.code == 0
    shown = capsys.readouterr().out
    assert "--output" in shown
    assert len(shown) > 400


def test_wrong_numbers_are_refused_by_the_parser(capsys):
    with pytest.raises(SystemExit):
        main(["demo", "--steps", "0"])
    assert "at least 1" in capsys.readouterr().err
