"""Evaluations on disk: interrupted, continued, and never mixed with another run's."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from datasets import Dataset
from PIL import Image

from fivl_hf.cli.main import main
from fivl_hf.evaluation.answerers.local import TransformersAnswerer
from fivl_hf.evaluation.report import write_report
from fivl_hf.evaluation.results import write_evaluation
from fivl_hf.evaluation.table import read_answers
from fivl_hf.files.locks import FolderInUseError, locked
from fivl_hf.hub.measured_cards import MeasuredResults, mismatches
from fivl_hf.images import ImageError
from fivl_hf.scenes.model import scene_model
from fivl_hf.schema import FEATURES
from fivl_hf.storage import load_rows, rows_fingerprint, write_dataset


@pytest.fixture(scope="module")
def places(tmp_path_factory, rows, processor):
    """A model and a dataset on disk."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_dataset(folder / "rows", {"test": rows[:6]}, title="S", description="D")
    scene_model(processor, seed=0, hidden_size=32, text_layers=2, vision_layers=1).save_pretrained(folder / "model")
    return folder


def answerer(load):
    return lambda: TransformersAnswerer(*load(), batch_size=2, max_new_tokens=4)


@pytest.fixture
def evaluate(places, model, processor, tmp_path):
    def run(load=lambda: (model, processor), **options):
        rows = load_rows(places / "rows", "test")
        given = {"model_name": places / "model", "dataset": places / "rows", "split": "test"}
        return write_evaluation(answerer(load), rows, tmp_path / "out", **{**given, **options})

    return run


def timeless(file):
    """The answers of a file, without how long each took."""
    return {(each.id, each.condition): replace(each, latency=None) for each in read_answers(file)}


class KilledError(BaseException):
    pass


def test_an_interrupted_evaluation_goes_on(evaluate, model, processor, tmp_path, monkeypatch):
    """At every moment: what was answered is kept, nothing is asked twice, and the result is the same."""
    whole = evaluate()
    answers = timeless(tmp_path / "out" / "answers.jsonl")
    generate, asked = model.generate, []
    for stop in range(9):
        for path in (tmp_path / "out").iterdir():
            path.unlink()
        left = stop

        def counted(*args, **options):
            nonlocal left
            if not left:
                raise KilledError
            left -= 1
            asked.append(len(options["input_ids"]))
            return generate(*args, **options)

        monkeypatch.setattr(model, "generate", counted)
        asked.clear()
        with pytest.raises(KilledError):
            evaluate()
        assert len(list(read_answers(tmp_path / "out" / "answers.jsonl"))) == 2 * stop if stop else True
        left = 100
        assert evaluate() == whole
        assert sum(asked) == 3 * 6
        assert timeless(tmp_path / "out" / "answers.jsonl") == answers


def test_a_line_that_a_kill_cut_off_is_asked_again(evaluate, tmp_path):
    whole = evaluate()
    file = tmp_path / "out" / "answers.jsonl"
    lines, answers = file.read_bytes(), timeless(file)
    for cut in (1, 40, len(lines.splitlines()[-1])):
        file.write_bytes(lines[:-cut])
        assert evaluate() == whole
        assert timeless(file) == answers


def test_results_of_another_run_are_refused_unless_replaced(evaluate, tmp_path):
    evaluate()
    with pytest.raises(ValueError, match=r"evaluation of another run \(seed: 0, now 1\)"):
        evaluate(seed=1)
    assert evaluate(seed=1, restart=True)["n"] == 6
    with pytest.raises(ValueError, match="another run"):
        evaluate()
    (tmp_path / "out" / "evaluation.run.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        evaluate(seed=1)
    (tmp_path / "out" / "evaluation.run.json").unlink()
    with pytest.raises(ValueError, match=r"holds reliance.json of an unknown run"):
        evaluate(seed=1)


def test_weights_and_rows_identify_a_run(evaluate, places, model, rows, tmp_path):
    """The same names, but other weights or other rows: another run."""
    first = evaluate()
    model.lm_head.weight.data += 1
    model.save_pretrained(places / "changed")
    changed = evaluate(model_name=places / "changed", restart=True)
    assert changed["weights_fingerprint"] != first["weights_fingerprint"]
    write_dataset(places / "other", {"test": rows[1:7]}, title="S", description="D")
    other = load_rows(places / "other", "test")
    with pytest.raises(ValueError, match="rows_fingerprint"):
        write_evaluation(
            answerer(lambda: (model, None)),
            other,
            tmp_path / "out",
            model_name=places / "changed",
            dataset=places / "rows",
            split="test",
        )


def test_other_images_are_other_rows(places, rows):
    """The same texts about other images, or with other masks."""
    written = load_rows(places / "rows", "test")
    first, second = written[0], written[1]
    changed = {
        "images": [{**first, "images": second["images"]}, *list(written)[1:]],
        "masks": [{**first, "masks": second["masks"][:1] * len(first["masks"])}, *list(written)[1:]],
    }
    known = {rows_fingerprint(written)}
    for others in changed.values():
        digest = rows_fingerprint(Dataset.from_list(others, features=written.features))
        assert digest not in known
        known.add(digest)


def test_the_folder_is_held_while_the_model_is_loaded(evaluate, model, processor, tmp_path):
    def load():
        with pytest.raises(FolderInUseError), ThreadPoolExecutor(1) as other:
            other.submit(evaluate).result()
        return model, processor

    assert evaluate(load)["questions"] == 6


def test_an_image_that_cannot_be_shown_names_its_question(evaluate, places, model, processor, rows, tmp_path):
    buffer = io.BytesIO()
    Image.new("F", (40, 40), float("nan")).save(buffer, "TIFF")
    broken = {**rows[1], "images": [{"bytes": buffer.getvalue(), "path": None}]}
    with pytest.raises(ImageError, match=rf"question '{rows[1]['id']}': an image with greys that are not finite"):
        write_evaluation(
            answerer(lambda: (model, processor)),
            Dataset.from_list([rows[0], broken], features=FEATURES),
            tmp_path / "broken",
            model_name=places / "model",
            dataset=places / "rows",
            split="test",
        )


def test_one_evaluation_at_a_time(evaluate, tmp_path):
    with locked(tmp_path / "out"), pytest.raises(FolderInUseError, match="is in use by"):
        evaluate()


def test_an_unfinished_evaluation_is_scored_as_one(evaluate, model, places, tmp_path, monkeypatch, capsys):
    generate, left = model.generate, [2]

    def counted(*args, **options):
        if not left[0]:
            raise KilledError
        left[0] -= 1
        return generate(*args, **options)

    monkeypatch.setattr(model, "generate", counted)
    with pytest.raises(KilledError):
        evaluate()
    out = tmp_path / "out"
    for _ in range(2):  # also where it was scored before
        assert main(["score", str(out)]) == 0
        assert "note: fivl evaluate was interrupted: some questions were not asked" in capsys.readouterr().out
    assert "fivl evaluate was interrupted" in write_report(out).read_text()
    summary = json.loads((out / "reliance.json").read_text())
    assert "the evaluation is not finished" in mismatches(places / "model", MeasuredResults(summary, None, None))
    left[0] = 100
    assert "unfinished" not in evaluate()
    assert main(["score", str(out)]) == 0
    assert "interrupted" not in capsys.readouterr().out
    (out / "answers.jsonl").write_text("")
    assert main(["score", str(out)]) == 1
    assert f"{out}: no question was answered yet" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", "null"])
def test_a_damaged_summary_is_made_again(evaluate, tmp_path, capsys, content):
    evaluate()
    summary = tmp_path / "out" / "reliance.json"
    whole = summary.read_bytes()
    summary.write_text(content)
    for command in ("score", "report"):
        assert main([command, str(tmp_path / "out")]) == 1
        assert "is damaged (" in (error := capsys.readouterr().err)
        assert f"but the answers are not: delete it, and run fivl score {tmp_path / 'out'}" in error
    summary.unlink()
    assert main(["score", str(tmp_path / "out")]) == 0
    again = json.loads(summary.read_text())
    assert again == {name: json.loads(whole)[name] for name in again}
