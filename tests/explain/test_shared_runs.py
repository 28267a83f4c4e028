"""Explanations that are killed, and that several processes share: each row is explained once, the result the same."""

import json
import random

import pytest


def command(places, output, *more):
    return [
        *("explain", "--model", places / "model", "--dataset", places / "rows", "--output", output),
        *("--batch-size", 1, "--pictures", 0, "--boxes", 0, *more),
    ]


def finished(output):
    """The lines of the rows' scores, and the result; every row was explained once."""
    lines = (output / "scores.jsonl").read_text().splitlines()
    assert len(lines) == len({json.loads(line)["id"] for line in lines}) == 8
    assert not list(output.glob("scores.process*"))
    return set(lines), json.loads((output / "explanation.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_an_explanation_that_is_killed_again_and_again(children, places, tmp_path, processes):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert children(command(places, alone)) == [0]
    lines, whole = finished(alone)
    for moment in [0, *sorted(random.Random(0).sample(range(1, 8), 3)), 8]:
        children(command(places, killed), processes, kill_after=moment)
    assert children(command(places, killed), processes) == [0] * processes
    again, found = finished(killed)
    assert again == lines
    assert [(head["layer"], head["head"]) for head in found["top_heads"]] == [
        (head["layer"], head["head"]) for head in whole["top_heads"]
    ]
    for name, measure in whole["measures"].items():
        assert found["measures"][name]["held_out"]["value"] == pytest.approx(measure["held_out"]["value"], abs=1e-5)
    assert found["problems"] == whole["problems"] == {}


@pytest.mark.slow
def test_a_knockout_of_two_processes_that_are_killed(children, places, tmp_path):
    def knocking(output):
        return [
            *("knockout", "--model", places / "model", "--dataset", places / "rows", "--output", output),
            *("--draws", 2, "--sizes", "1,2"),
        ]

    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert children(knocking(alone)) == [0]
    for moment in (0, 3, 7):
        children(knocking(killed), 2, kill_after=moment)
    assert children(knocking(killed), 2) == [0, 0]
    lines = [sorted((output / "knockout.jsonl").read_text().splitlines()) for output in (alone, killed)]
    assert lines[0] == lines[1]
    assert len(set(lines[0])) == len(lines[0])
    assert not list(killed.glob("knockout.process*"))
    assert (alone / "knockout.json").read_text() == (killed / "knockout.json").read_text()
