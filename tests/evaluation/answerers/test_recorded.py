"""Answers in files of several makers."""

import json

import pytest
from openpyxl import Workbook

from fivl_hf.cli.main import main
from fivl_hf.evaluation.answerers.protocol import Generated, Unanswered
from fivl_hf.evaluation.answerers.recorded import RecordedAnswerer, read_recorded
from fivl_hf.evaluation.plan import Plan
from fivl_hf.evaluation.runner import evaluate_answers
from fivl_hf.storage import write_dataset


def write_lines(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_every_format_gives_the_same_answers(tmp_path):
    """Ids and texts as each tool writes them; a text that looks like a number stays a text."""
    book = Workbook()
    for row in (["index", "question", "prediction"], [7, "How many?", "3"], [8, "Is it?", None]):
        book.active.append(row)
    book.save(tmp_path / "v.xlsx")
    (tmp_path / "v.tsv").write_text('index\tprediction\n7\t3\n8\t""\n')
    (tmp_path / "v.csv").write_text("index,prediction\n7,3\n8,\n")
    (tmp_path / "v.json").write_text('[{"question_id": 7, "answer": "3"}, {"question_id": 8, "answer": ""}]')
    write_lines(tmp_path / "v.jsonl", [{"id": "7", "prediction": "3"}, {"id": "8", "text": ""}])
    samples = [
        {"doc_id": 0, "target": "3", "resps": [["3 "]], "filtered_resps": ["3"], "gqa_accuracy": {"question_id": 7}},
        {"doc_id": 1, "target": "", "filtered_resps": "", "gqa_accuracy": {"question_id": 8}},
    ]
    write_lines(tmp_path / "samples.jsonl", samples)
    for path in sorted(tmp_path.iterdir()):
        recorded = [answer[:3] for answer in read_recorded(path)]
        assert recorded == [("7", None, Generated("3")), ("8", None, Generated(""))], path.name


def test_refusals_and_cut_off_answers_stay_what_they_are(rows, tmp_path):
    """Also where a refusal says what would be right; the answers of an evaluation can be recorded answers, too."""
    lines = [
        {"id": row["id"], "answer": row["messages"][1]["content"], "finish_reason": reason, "latency": 0.5}
        for row, reason in zip(rows[:3], ("stop", "refusal", "length"), strict=True)
    ]
    answerer = RecordedAnswerer([("original", write_lines(tmp_path / "o.jsonl", lines))])
    summary, table = evaluate_answers(answerer, rows[:3], conditions=["original"])
    assert [(each.score, each.parsed, each.latency) for each in table] == [
        (1, True, 0.5),
        (0, False, 0.5),
        (1, True, 0.5),
    ]
    assert summary["conditions"]["original"]["endings"] == {"length": 1, "refusal": 1}


def test_answers_to_another_dataset_are_refused(rows, tmp_path):
    other = write_lines(tmp_path / "o.jsonl", [{"id": "somewhere else", "answer": "yes"}])
    message = rf"no question got an answer \(4 × not in the file\), the first being '{rows[0]['id']}'"
    with pytest.raises(ValueError, match=message):
        evaluate_answers(RecordedAnswerer([(None, other)]), rows[:2], conditions=["original", "removed"])


def test_recorded_answers_are_scored_like_others(rows, tmp_path):
    ids = [row["id"] for row in rows[:3]]
    right = {row["id"]: row["messages"][1]["content"] for row in rows[:3]}
    original = write_lines(tmp_path / "o.jsonl", [{"id": id, "answer": right[id]} for id in ids])
    lines = [{"id": id, "condition": "removed", "answer": "no"} for id in ids[:2]]
    answerer = RecordedAnswerer([("original", original), (None, write_lines(tmp_path / "r.jsonl", lines))])
    summary, table = evaluate_answers(answerer, rows[:3], conditions=["original", "removed"])
    assert (summary["accuracy"], summary["visual_reliance_score"], summary["n"]) == (1.0, 1.0, 2)
    assert answerer.unanswered == [Unanswered(ids[2], "removed", "not in the file")]
    recorded = answerer.identity["recorded"]
    assert [each[:2] for each in recorded] == [["original", "o.jsonl"], [None, "r.jsonl"]]
    # Files that change places, also those of one name in two folders, are another run's.
    folders = [tmp_path / name for name in ("a", "b")]
    for folder, text in zip(folders, ("yes", "no"), strict=True):
        folder.mkdir()
        write_lines(folder / "s.jsonl", [{"id": id, "answer": text} for id in ids])
    ways = [
        RecordedAnswerer(zip(order, (folder / "s.jsonl" for folder in folders), strict=True)).identity
        for order in (("original", "removed"), ("removed", "original"))
    ]
    assert ways[0] != ways[1]
    assert len(table) == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"answer": "x"}\n', r"a.jsonl, entry 1: expected an object with one of id, question_id, index"),
        ("a.jsonl", '{"id": null, "answer": "x"}\n', "entry 1: .*got answer, id"),
        ("a.jsonl", "[1]\n", "entry 1: .*got list"),
        ("a.jsonl", '{"resps": [["x"]], "doc_id": 0}\n', "the task kept no question's id"),
        ("a.jsonl", '{"resps": [], "id": 0}\n', "entry 1"),
        ("a.jsonl", "{\n", "a.jsonl"),
        ("a.json", '{"id": 1}', "expected a list of answers, got dict"),
        ("a.xlsx", "no table", "a.xlsx cannot be read as .xlsx"),
        ("a.txt", "x", "recorded answers are .jsonl, .json, .csv, .tsv or .xlsx"),
        ("a.csv", "name\nx\n", "entry 1: .*got name"),
        ("a.csv", "id,answer\n1,x\n1,y\n", "there are two answers to '1' under 'original'"),
        ("a.csv", b"id,answer\n1,\xff\n", "a.csv cannot be read: .* save it as UTF-8"),
        ("a.json", "[{", "a.json is not valid JSON"),
        ("a.jsonl", '{"id": 1, "answer": "x", "condition": "originl"}\n', "entry 1: .*there is no condition 'originl'"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        RecordedAnswerer([("original", tmp_path / name)])


def test_answers_to_other_questions_of_the_same_ids_are_refused(rows, tmp_path):
    """As those of another split of POPE, where the file says what was asked."""
    lines = [{"id": row["id"], "answer": "yes", "question": "Is there a cat?"} for row in rows[:2]]
    answerer = RecordedAnswerer([("original", write_lines(tmp_path / "o.jsonl", lines))])
    with pytest.raises(ValueError, match=f"the recorded answer to '{rows[0]['id']}' is to 'Is there a cat.', not to"):
        list(answerer.answers(Plan(rows[:2], ["original"])))
    asked = [{**line, "question": row["messages"][0]["content"]} for line, row in zip(lines, rows[:2], strict=True)]
    answerer = RecordedAnswerer([("original", write_lines(tmp_path / "o.jsonl", asked))])
    assert len(list(answerer.answers(Plan(rows[:2], ["original"], prompt_suffix="\nOne word.")))) == 2


def test_a_dataset_whose_questions_are_not_in_the_file(rows, tmp_path):
    answerer = RecordedAnswerer([("original", write_lines(tmp_path / "o.jsonl", [{"id": "1", "answer": "x"}]))])
    assert list(answerer.answers(Plan(rows[:2], ["original"]))) == []
    assert [each.reason for each in answerer.unanswered] == ["not in the file"] * 2


def test_what_cannot_be_scored_is_said(rows, tmp_path, capsys):
    write_dataset(tmp_path / "rows", {"test": rows[:3]}, title="S", description="D")
    removed = write_lines(tmp_path / "r.jsonl", [{"id": row["id"], "answer": "no"} for row in rows[:3]])
    command = ["evaluate", "--model", "m", "--dataset", str(tmp_path / "rows"), "--output", str(tmp_path / "out")]
    assert main([*command, "--recorded", f"remove={removed}"]) == 1
    assert "there is no condition 'remove'" in capsys.readouterr().err
    assert main([*command, "--recorded", f"removed={removed}"]) == 1
    assert "there are no answers to the original images" in capsys.readouterr().err

    original = write_lines(tmp_path / "o.jsonl", [{"id": row["id"], "answer": "yes"} for row in rows[:3]])
    one = write_lines(tmp_path / "one.jsonl", [{"id": rows[0]["id"], "answer": "no"}])
    files = [f"original={original}", f"removed={one}", "--conditions", "original,removed", "--restart"]
    assert main([*command, "--recorded", *files]) == 0
    listed = [json.loads(line) for line in (tmp_path / "out" / "unanswered.jsonl").read_text().splitlines()]
    assert {each["id"] for each in listed} == {row["id"] for row in rows[1:3]}
    assert {(each["condition"], each["reason"]) for each in listed} == {("removed", "not in the file")}
    assert "3, 3 of them with evidence, 1 of these answered under all conditions" in capsys.readouterr().out
