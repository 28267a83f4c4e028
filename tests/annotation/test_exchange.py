import base64
import json

import pytest
from drawn_rows import part_mask

from fivl_hf.annotation.exchange import export_argilla, export_csv, import_argilla, import_csv
from fivl_hf.annotation.items import make_item
from fivl_hf.annotation.ratings import collect_ratings
from fivl_hf.masks import encode_mask

SAID = {"r0/0": {"anna": "yny", "ben": "uyn"}, "r1/1": {"anna": "y"}}
MORE = [
    ("anna", "r1/1", "boxes", [[0.0, 0.0, 3.5, 4.0]]),
    ("anna", "r1/1", "mask_png", base64.b64encode(encode_mask(part_mask(3))).decode()),
    ("ben", "r0/0", "text", "A car"),
    ("ben", "r0/0", "missed", []),
    ("anna", "r0/0", "comment", '=HYPERLINK("http://x"), "two"\nlines'),
    ("anna", "r0/0", "missed", ["A", "and"]),
    ("ben", "r0/0", "comment", "'quoted"),
    ("ben", "r0/0", "drop", True),
]


def test_csv_there_and_back(rate, few_rows, tmp_path):
    ratings = rate(SAID, MORE)
    path = tmp_path / "out" / "a.csv"
    assert export_csv(path, ratings) == 3
    assert "'=HYPERLINK" in path.read_text()  # not a formula for a spreadsheet
    assert import_csv(path, tmp_path / "back") == {"anna": 2, "ben": 1}
    back = collect_ratings(few_rows, [tmp_path / "back"])
    assert [each.annotations for each in back.rated] == [each.annotations for each in ratings.rated]
    with pytest.raises(FileExistsError, match="has annotations"):
        import_csv(path, tmp_path / "back")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("expression", "exp", "the column 'expression' is missing"),
        (",unsure,", ",perhaps,", "row 3: mask is answered by yes, no, unsure"),
        (",ben,", ",../ben,", "row 3: an annotator's name"),
    ],
)
def test_a_wrong_csv_writes_nothing(rate, tmp_path, before, after, message):
    path = tmp_path / "a.csv"
    export_csv(path, rate(SAID, MORE))
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(ValueError, match=message):
        import_csv(path, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_argilla_there_and_back(few_rows, tmp_path):
    """The export was loaded by argilla 2.8.0 once; here its answers are put in as Dataset.to_disk writes them."""
    items = [(make_item(few_rows[0], 0), 0), (make_item(few_rows[1], 1), 1)]
    folder = tmp_path / "argilla"
    assert export_argilla(folder, few_rows, items) == 2
    settings = json.loads((folder / ".argilla" / "settings.json").read_text())
    assert [each["name"] for each in settings["questions"]] == ["mask", "expression", "example"]
    assert [each["value"] for each in settings["questions"][0]["settings"]["options"]] == ["yes", "no", "unsure"]
    records = json.loads((folder / "records.json").read_text())
    assert records[0]["fields"]["expression"] == "car"
    assert records[0]["fields"]["image"].startswith("data:image/jpeg;base64,")
    with pytest.raises(FileExistsError, match="not empty"):
        export_argilla(folder, few_rows, items)

    one, other = "9e045208-1213-4123-b182-e0098bd66233", "0b5b8f5c-9c1b-4d1c-8f60-2a3c4d5e6f70"
    records[0]["responses"] = {
        "mask": [{"value": "yes", "user_id": one}, {"value": "no", "user_id": other, "status": "submitted"}],
        "expression": [{"value": "unsure", "user_id": one, "status": "discarded"}],
        "other question": [{"value": 3, "user_id": one}],
    }
    (folder / "records.json").write_text(json.dumps(records))
    assert import_argilla(folder, tmp_path / "back", {one: "anna"}) == {"anna": 1, other: 1}
    (rated,) = collect_ratings(few_rows, [tmp_path / "back"]).rated
    assert rated.answers("mask") == {"anna": "yes", other: "no"}
    assert rated.answers("expression") == {}


@pytest.mark.parametrize("content", ["[3]", '[{"id": "a", "responses": {"mask": [{"value": "yes"}]}}]', "{}x"])
def test_other_files_are_not_argillas(tmp_path, content):
    path = tmp_path / "records.json"
    path.write_text(content)
    with pytest.raises(ValueError):
        import_argilla(path, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_what_spreadsheets_make_of_a_csv(rate, tmp_path):
    path = tmp_path / "a.csv"
    export_csv(path, rate({"r0/0": {"anna": "yny"}}))
    text = path.read_text()
    path.write_text("\ufeff" + text.replace(",", ";") + ";;;;\n")
    assert import_csv(path, tmp_path / "back") == {"anna": 1}
    path.write_bytes(text.replace("anna", "annä").encode("latin-1"))
    with pytest.raises(ValueError, match="a.csv is not in UTF-8 .*: save it as CSV UTF-8"):
        import_csv(path, tmp_path / "no")
    path.write_text(text.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match="the file has no annotations"):
        import_csv(path, tmp_path / "no")
    assert not (tmp_path / "no").exists()
