"""The tar index against tarfile, and tensors as they are released."""

import io
import tarfile

import pytest
from builder_sources import indexed_tar, write_tar


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_reads_what_tarfile_reads(tmp_path, kind):
    long = "/".join(["folder" * 5] * 4) if kind == tarfile.USTAR_FORMAT else "/".join(["folder" * 8] * 6)
    members = [("a.pt", b"A" * 700), (f"{long}/b.pt", b"B"), ("./c/d.pt", b""), ("e.pt", b"E" * 512), ("a.pt", b"new")]
    write_tar(tmp_path / "x.tar", members, kind)
    reader, refused = indexed_tar(tmp_path / "x.tar")
    with tarfile.open(tmp_path / "x.tar") as archive:
        expected = {member.name: archive.extractfile(member).read() for member in archive}
    assert {name: reader.read(name) for name in expected} == expected
    assert reader.read("a.pt") == b"new"
    assert "./c/d.pt" in reader
    assert not refused


def test_names_that_are_no_unicode_do_not_stop_the_index(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", encoding="latin-1") as archive:
        for name in ("caf\xe9.pt", "b.pt"):
            header = tarfile.TarInfo(name)
            header.size = 1
            archive.addfile(header, io.BytesIO(b"x"))
    reader, _ = indexed_tar(tmp_path / "x.tar")
    assert reader.read("b.pt") == b"x"


def test_only_wanted_members_are_indexed_tar(tmp_path):
    write_tar(tmp_path / "x.tar", [("a.png", b"1"), ("a.pt", b"2")])
    reader, _ = indexed_tar(tmp_path / "x.tar", lambda name: name.endswith(".pt"))
    assert "a.pt" in reader
    assert "a.png" not in reader


def test_names_upon_names_do_not_exhaust_the_stack(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for _ in range(3_000):
            header = tarfile.TarInfo("long")
            header.type = tarfile.GNUTYPE_LONGNAME
            header.size = 5
            archive.addfile(header, io.BytesIO(b"a.pt\0"))
        header = tarfile.TarInfo("b.pt")
        header.size = 1
        archive.addfile(header, io.BytesIO(b"x"))
    with pytest.raises(RecursionError), tarfile.open(tmp_path / "x.tar") as archive:
        archive.getmembers()
    reader, _ = indexed_tar(tmp_path / "x.tar")
    assert reader.read("a.pt") == b"x"
