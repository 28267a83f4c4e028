"""Large JSON files, piece by piece, in whatever encoding their byte-order mark says."""

import json

import pytest

from fivl_hf.files.json_stream import json_items, json_lines, json_members, leading_events

ENTRIES = [{"id": "é😀", "image": f"{i}.jpg"} for i in range(5000)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_read(tmp_path, encoding):
    path = tmp_path / "mix.json"
    path.write_bytes(json.dumps(ENTRIES, ensure_ascii=False).encode(encoding))
    assert list(json_items(path, "item")) == ENTRIES
    assert leading_events(path, 1) == [("", "start_array", None)]
    path.write_bytes(json.dumps({"a": 1, "é": [2]}, ensure_ascii=False).encode(encoding))
    assert list(json_members(path)) == [("a", 1), ("é", [2])]
    path.write_bytes("\n".join(json.dumps(entry, ensure_ascii=False) for entry in ENTRIES).encode(encoding))
    assert list(json_lines(path)) == list(enumerate(ENTRIES, 1))


@pytest.mark.parametrize(("encoding", "reason"), [("latin-1", "not UTF-8"), ("utf-16-be", "not UTF-8: it holds zero")])
def test_other_encodings_are_named(tmp_path, encoding, reason):
    path = tmp_path / "mix.json"
    path.write_bytes(json.dumps([{"id": "é"}], ensure_ascii=False).encode(encoding))
    with pytest.raises(ValueError, match=rf"mix\.json is {reason}.*save it as UTF-8"):
        list(json_items(path, "item"))
    if encoding == "latin-1":
        ((number, error),) = json_lines(path)
        assert number == 1
        assert "not UTF-8" in str(error)
