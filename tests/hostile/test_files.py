"""Data files that would take memory or time, run code, or lead elsewhere."""

import contextlib
import io
import json
import pickle
import re
import tarfile
import zipfile
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from builder_sources import indexed_tar, pope, write_tar
from hypothesis import given
from hypothesis import strategies as st
from limits import limited
from synthetic_release import hostile_pickle, released_tensor

from fivl_hf.building.tensors import TensorError, load_grid
from fivl_hf.files.json_stream import _Guarded, json_items, json_lines, json_members, leading_events, parse_json

DEEP = {
    "lists": b"[" * 200_000 + b"]" * 200_000,
    "objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "in a member": b'[{"id": "1", "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}]",
    "never closed": b"[" * 10_000_000,
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_json_is_refused_at_once(tmp_path, name):
    path = tmp_path / "mix.json"
    path.write_bytes(DEEP[name])
    for read in (partial(json_items, path, "item"), partial(json_members, path), partial(leading_events, path, 10**9)):
        with pytest.raises(ValueError, match=r"mix\.json is nested deeper than 200 levels"):
            limited(lambda read=read: list(read()), seconds=5, megabytes=100)
    with pytest.raises(ValueError, match="nested too deeply|not valid JSON|Expecting"):
        limited(partial(parse_json, DEEP[name]), seconds=5, megabytes=300)
    path.write_bytes(DEEP[name][: len(DEEP[name]) // 2] + b"\n" + json.dumps({"id": "2"}).encode())
    found = list(json_lines(path))
    assert [number for number, _ in found] == [1, 2]
    assert found[1][1] == {"id": "2"}


_TEXTS = st.text(st.sampled_from('\\"[]{}an'), max_size=8)
_VALUES = st.recursive(_TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3))


@given(value=st.lists(_VALUES, max_size=4))
def test_brackets_in_strings_do_not_count_as_depth(value, tmp_path_factory):
    path = tmp_path_factory.mktemp("json") / "mix.json"
    path.write_text(json.dumps(value))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fivl_hf.files.json_stream.MAX_DEPTH", depth(value))
        assert list(json_items(path, "item")) == value
        patch.setattr("fivl_hf.files.json_stream.MAX_DEPTH", depth(value) - 1)
        with pytest.raises(ValueError, match="is nested deeper"):
            list(json_items(path, "item"))


def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def test_hostile_entries_are_passed_over_and_the_rest_is_found(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("first.pt", "../up.pt", "/root.pt", "a/../../b.pt"):
            header = tarfile.TarInfo(name)
            header.size = 3
            archive.addfile(header, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("link.pt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        # A name, and a file, of 2 GB, of which only the header is there.
        for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.REGTYPE):
            header = tarfile.TarInfo("huge.pt")
            header.type, header.size = kind, 2_000_000_000
            archive.fileobj.write(header.tobuf(tarfile.GNU_FORMAT))
            archive.offset += 512
        header = tarfile.TarInfo("last.pt")
        header.size = 4
        archive.addfile(header, io.BytesIO(b"last"))
    reader, refused = indexed_tar(path)
    assert reader.read("first.pt") == b"abc"
    assert reader.read("last.pt") == b"last"
    assert refused == Counter(
        {
            "a name that leaves the archive": 3,
            "neither a file nor a folder": 1,
            "a header that claims more than there can be": 3,
        }
    )
    for name in ("../up.pt", "/root.pt", "link.pt", "huge.pt"):
        assert name not in reader
        with pytest.raises(KeyError):
            reader.read(name)


@given(place=st.integers(0, 6_184), value=st.integers(0, 255), cut=st.integers(0, 6_185))
def test_tampered_tensors_are_refused_or_read(place, value, cut):
    """Whatever byte is changed, wherever the file ends: a grid or one kind of error."""
    data = bytearray(released_tensor(np.full((24, 24), 7.0)))
    data[place % len(data)] = value
    for changed in (bytes(data), bytes(data[:cut])):
        with contextlib.suppress(TensorError):
            assert load_grid(changed).shape == (24, 24)


def test_an_archive_that_is_cut_off_is_refused(tmp_path):
    write_tar(tmp_path / "x.tar", [("a.pt", b"A" * 600), ("b.pt", b"\0" * 6_000)])
    data = (tmp_path / "x.tar").read_bytes()
    second = 512 + 1024
    for length in (second + 512 + 100, second + 512 + 3_000, second + 512 + 6_144, second, second + 512):
        (tmp_path / "x.tar").write_bytes(data[:length])
        with pytest.raises(ValueError, match="is cut off: .*download it again"):
            indexed_tar(tmp_path / "x.tar")


def test_other_files_than_tar_are_refused(tmp_path):
    for name, data in (("x.tar", b"{}" * 400), ("y.tar", b""), ("z.tar", b"\x1f\x8b" + b"\0" * 600)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="not a plain tar archive"):
            indexed_tar(tmp_path / name)


def test_files_without_a_tensor_are_refused(tmp_path):

    def saved(value, **options):
        buffer = io.BytesIO()
        torch.save(value, buffer, **options)
        return buffer.getvalue()

    good = released_tensor(torch.zeros(24, 24).numpy())
    squeezed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in source.namelist():
            bomb.writestr(name, source.read(name))
        bomb.writestr("archive/data/1", b"\0" * 50_000_000)
    canary = tmp_path / "canary"
    refused = {
        "a pickle that holds more than a tensor": [hostile_pickle(canary), saved({"a": 1})],
        "unpacks to more": [squeezed.getvalue()],
        "not a torch.save file": [
            b"",
            b"PK",
            good[:900],
            saved(torch.zeros(24, 24), _use_new_zipfile_serialization=False),
        ],
        "24×23 cells where the release has 24×24": [saved(torch.zeros(24, 23))],
        "1000000×1000000 cells": [saved(torch.zeros(1).expand(10**6, 10**6))],
        "not a tensor of 24×24 numbers": [saved(torch.zeros(24, 24).bool()), saved(torch.zeros(576))],
        "not between": [saved(torch.full((24, 24), float("nan"))), saved(torch.full((24, 24), 256.0))],
        "more than 64,000": [b"\0" * 70_000],
    }
    for message, files in refused.items():
        for data in files:
            with pytest.raises(TensorError, match=message):
                load_grid(data)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1e9, 1, 1e9, 9, 3, 3]], "a polygon that leaves the 96x64 image"),
        ([[float("inf"), 1, 5, 9, 3, 3]], "not valid JSON|a polygon that leaves"),
        ({"counts": [1, 2], "size": [1_000_000, 1_000_000]}, "run lengths of size"),
        ({"counts": [1, 2], "size": [64, 96]}, "do not add up"),
        ({"counts": "~~~~~~~~0", "size": [64, 96]}, "do not add up"),
    ],
)
def test_hostile_segmentations_are_refused_before_they_take_memory(build, tmp_path, segmentation, message):
    options = pope(tmp_path)
    path = tmp_path / "instances_val2014.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = segmentation
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="samples failed|not valid JSON"):
        build("fivl_pope", tmp_path / "out", **options, splits=("random",))
    problems = tmp_path / "out.work" / "problems.jsonl"
    if problems.exists():
        assert re.search(message, problems.read_text())


def test_a_tensor_whose_pickle_asks_for_memory_is_refused():
    """``weights_only`` calls ``bytearray`` with whatever size the file names."""

    class Greedy:
        def __reduce__(self):
            return bytearray, (6 << 30,)

    buffer = io.BytesIO()
    torch.save({"grid": torch.zeros(24, 24), "more": Greedy()}, buffer)
    with pytest.raises(TensorError, match="a pickle that holds more than a tensor"):
        limited(partial(load_grid, buffer.getvalue()))
    with zipfile.ZipFile(io.BytesIO(released_tensor(np.zeros((24, 24))))) as good:
        parts = {name: good.read(name) for name in good.namelist()}
    nested = b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b"}" + b"h\x00Ns."
    for hostile in (pickle.dumps(Greedy(), 2), nested, b"\x80\x02]" + b"(" * 60_000, b"\x80\x02\x8b\xff\xff\xff\x7f"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, hostile if name.endswith("data.pkl") else data)
        # torch finds its files whatever the case of their names.
        for data in (buffer.getvalue(), buffer.getvalue().replace(b"data.pkl", b"DATA.PKL")):
            with pytest.raises(TensorError):
                limited(partial(load_grid, data), seconds=5)


@given(
    parts=st.lists(st.sampled_from(["\\ud83d", "\\ude00", "\\\\", "\\n", '\\"', "ud83d", "x"]), max_size=12),
    size=st.integers(1, 9),
)
def test_half_surrogates_in_large_files_are_replaced_as_in_small_ones(parts, size):
    """However the file is cut into pieces, and whatever escapes are around them."""
    raw = f'["{"".join(parts)}"]'.encode()
    reader, read = _Guarded(io.BytesIO(raw), "x"), b""
    while piece := reader.read(size):
        read += piece
    assert json.loads(read) == parse_json(raw)
