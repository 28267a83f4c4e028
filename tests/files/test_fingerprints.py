import os

import pytest

from fivl_hf.files.fingerprints import content_fingerprint, files_digest


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(256)))
    return tmp_path / "a.bin"


def test_a_digest_goes_by_size_and_time(file):
    before = files_digest([file])
    assert len(before) == 16
    assert files_digest([file]) == before
    os.utime(file, (1, 1))
    assert files_digest([file]) != before


def test_a_fingerprint_goes_by_content_wherever_it_lies(file, tmp_path):
    before = content_fingerprint([file])
    os.utime(file, (1, 1))
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "a.bin"
    copy.write_bytes(file.read_bytes())
    assert content_fingerprint([file]) == content_fingerprint([copy]) == before
    copy.write_bytes(file.read_bytes()[:-1] + b"x")
    assert content_fingerprint([copy]) != before
    assert content_fingerprint([file.rename(tmp_path / "b.bin")]) != before


def test_the_order_in_which_files_are_listed_does_not_matter(file, tmp_path):
    other = tmp_path / "b.bin"
    other.write_bytes(b"b")
    assert content_fingerprint([file, other]) == content_fingerprint([other, file]) != content_fingerprint([file])


def test_large_files_are_sampled_to_their_ends(tmp_path):
    """64 blocks of 64 KB from the first to the last byte: other weights differ in all of them."""
    large = tmp_path / "large.bin"
    found = set()
    for value in (b"a", b"b"):
        for place in (0, 9_999_999):
            large.write_bytes(b"\0" * 10_000_000)
            with large.open("r+b") as file:
                file.seek(place)
                file.write(value)
            found.add(content_fingerprint([large]))
    assert len(found) == 4
