"""The tar index against tarfile, and hostile archives."""

import contextlib
import io
import sqlite3
import tarfile
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivl_hf.building.archive import ArchiveReader, index_archive
from fivl_hf.building.tensors import TensorError, load_grid


def write(path, members, kind=tarfile.GNU_FORMAT):
    with tarfile.open(path, "w", format=kind) as archive:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))


def indexed(path, wanted=lambda name: True):
    index = path.with_suffix(".sqlite")
    index.unlink(missing_ok=True)
    with sqlite3.connect(index) as table:
        refused = index_archive(path, table, wanted=wanted)
    return ArchiveReader(path, index), refused


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_reads_what_tarfile_reads(tmp_path, kind):
    long = "/".join(["folder" * 5] * 4) if kind == tarfile.USTAR_FORMAT else "/".join(["folder" * 8] * 6)
    members = [("a.pt", b"A" * 700), (f"{long}/b.pt", b"B"), ("./c/d.pt", b""), ("e.pt", b"E" * 512), ("a.pt", b"new")]
    write(tmp_path / "x.tar", members, kind)
    reader, refused = indexed(tmp_path / "x.tar")
    with tarfile.open(tmp_path / "x.tar") as archive:
        expected = {member.name: archive.extractfile(member).read() for member in archive}
    assert {name: reader.read(name) for name in expected} == expected
    assert reader.read("a.pt") == b"new"
    assert "./c/d.pt" in reader
    assert not refused


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
    reader, refused = indexed(path)
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


def test_names_that_are_no_unicode_do_not_stop_the_index(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", encoding="latin-1") as archive:
        for name in ("caf\xe9.pt", "b.pt"):
            header = tarfile.TarInfo(name)
            header.size = 1
            archive.addfile(header, io.BytesIO(b"x"))
    reader, _ = indexed(tmp_path / "x.tar")
    assert reader.read("b.pt") == b"x"


@given(place=st.integers(0, 6_184), value=st.integers(0, 255), cut=st.integers(0, 6_185))
def test_tampered_tensors_are_refused_or_read(place, value, cut):
    """Whatever byte is changed, wherever the file ends: a grid or one kind of error."""
    from synthetic_release import released_tensor

    data = bytearray(released_tensor(np.full((24, 24), 7.0)))
    data[place % len(data)] = value
    for changed in (bytes(data), bytes(data[:cut])):
        with contextlib.suppress(TensorError):
            assert load_grid(changed).shape == (24, 24)


def test_only_wanted_members_are_indexed(tmp_path):
    write(tmp_path / "x.tar", [("a.png", b"1"), ("a.pt", b"2")])
    reader, _ = indexed(tmp_path / "x.tar", lambda name: name.endswith(".pt"))
    assert "a.pt" in reader
    assert "a.png" not in reader


def test_an_archive_that_is_cut_off_is_refused(tmp_path):
    write(tmp_path / "x.tar", [("a.pt", b"A" * 600), ("b.pt", b"\0" * 6_000)])
    data = (tmp_path / "x.tar").read_bytes()
    second = 512 + 1024
    for length in (second + 512 + 100, second + 512 + 3_000, second + 512 + 6_144, second, second + 512):
        (tmp_path / "x.tar").write_bytes(data[:length])
        with pytest.raises(ValueError, match="is cut off: .*download it again"):
            indexed(tmp_path / "x.tar")


def test_what_is_no_tar_is_refused(tmp_path):
    for name, data in (("x.tar", b"{}" * 400), ("y.tar", b""), ("z.tar", b"\x1f\x8b" + b"\0" * 600)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="no plain tar archive"):
            indexed(tmp_path / name)


def test_released_tensor_is_read_exactly():
    from synthetic_release import released_tensor

    grid = np.arange(576, dtype=np.float32).reshape(24, 24) / 575 * 255
    assert np.array_equal(load_grid(released_tensor(grid)), grid.astype(np.float64) / 255)


def test_tensors_that_are_none_are_refused(tmp_path):
    import zipfile

    import torch
    from synthetic_release import hostile_pickle, released_tensor

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
        "a pickle that holds more than a tensor": [hostile_pickle(canary)],
        "unpacks to more": [squeezed.getvalue()],
        "no torch.save file": [
            b"",
            b"PK",
            good[:900],
            saved(torch.zeros(24, 24), _use_new_zipfile_serialization=False),
        ],
        "no 24×24 tensor": [
            saved(torch.zeros(24, 23)),
            saved({"a": 1}),
            saved(torch.zeros(24, 24).bool()),
            saved(torch.zeros(1).expand(10**6, 10**6)),
        ],
        "not between": [saved(torch.full((24, 24), float("nan"))), saved(torch.full((24, 24), 256.0))],
        "more than 64,000": [b"\0" * 70_000],
    }
    for message, files in refused.items():
        for data in files:
            with pytest.raises(TensorError, match=message):
                load_grid(data)
    assert not canary.exists()
