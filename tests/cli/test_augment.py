import pytest
from scene_runs import names_the_thing, rows

from fivl_hf.cli.main import main


def test_the_command_asks_estimates_and_batches(tmp_path, serve, capsys, scene_run):
    server = serve(names_the_thing)
    command = [
        "augment",
        "--input",
        "scenes",
        "--limit",
        "70",
        "--grounder",
        "scenes",
        "--output",
        str(tmp_path / "fivl"),
    ]
    ask = [*command, "--model", "m", "--base-url", server.url, "--shard-size", "8", "--workers", "1"]
    prices = ["--input-price", "2.5", "--output-price", "10"]
    assert main([*ask, *prices, "--dry-run"]) == 0
    estimated = capsys.readouterr().out
    requests = int(estimated.split(" requests to pay for, 0 answered already")[0])
    assert "through --batch-api" in estimated
    assert not server.asked
    assert main([*ask, "--batch-api", "--poll", "0.01"]) == 0
    told = capsys.readouterr().out
    assert "batch-0: completed" in told
    assert "0 requests (0 failed)" in told
    assert requests == len(server.asked) < 140
    assert rows(tmp_path / "fivl") == scene_run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "nothing.json", "--format", "llava"], "there is no file nothing.json"),
        (["--input", "nothing.json"], "there is no file nothing.json"),
        (["--input", "scenes", "--limit", "3", "--grounder", "grounded-sam", "--device", "cuda"], "cannot be used"),
        (["--input", "scenes"], "needs --limit"),
        (["--input", "scenes", "--limit", "3", "--extractor", "openai"], "name the language model with --model"),
        (["--input", "scenes", "--limit", "3", "--dry-run"], "the offline extractor asks nobody"),
        (["--input", "scenes", "--limit", "3", "--grounder", "annotations"], "needs the annotation files"),
        (
            ["--input", "scenes", "--limit", "3", "--grounder", "grounded-sam", "--detector", "/none"],
            "no detector folder",
        ),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(tmp_path, capsys, options, message):
    command = [
        "augment",
        "--output",
        str(tmp_path / "fivl"),
        "--extractor",
        "offline",
        "--grounder",
        "scenes",
        *options,
    ]
    assert main(command) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("fivl: ")
    assert message in error
