import json

from judges import honest
from scripted_server import Answer

from fivl_hf.cli.main import main


def test_the_command_prints_bands_and_goes_on_after_its_budget(scenes_folder, serve, tmp_path, capsys):
    server = serve(honest)
    command = ["judge", "--dataset", str(scenes_folder), "--output", str(tmp_path / "judge"), "--samples", "8"]
    command += ["--model", "m", "--base-url", server.url]
    assert main([*command, "--max-requests", "9", "--concurrency", "1"]) == 1
    assert "budget of 9 requests" in capsys.readouterr().err
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "5% to 20%" in told
    assert "degree 8.00 [8.00, 8.00]" in told
    assert f"{len(server.asked) - 9} requests (0 failed)" in told, "the nine that were paid come from the cache"
    assert set(server.asked.values()) == {1}
    judged = [json.loads(line) for line in (tmp_path / "judge" / "judgements.jsonl").read_text().splitlines()]
    assert len({each["id"] for each in judged}) == 8
    assert f"8 samples, {len(judged)} key expressions" in told
    assert json.loads((tmp_path / "judge" / "judge.json").read_text())["all"]["n"] == len(judged)


def test_a_judge_that_never_answers_is_an_error(scenes_folder, serve, tmp_path, capsys):
    server = serve(lambda body, number: Answer("no idea"))
    command = ["judge", "--dataset", str(scenes_folder), "--output", str(tmp_path / "judge"), "--samples", "2"]
    assert main([*command, "--model", "m", "--base-url", server.url]) == 1
    assert "no request got a usable reply: importance:" in capsys.readouterr().err
