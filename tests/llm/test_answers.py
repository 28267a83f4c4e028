import pytest
from extractions import turns, words

from fivl_hf.llm.answers import AnswerCache


def test_nothing_is_paid_twice(serve, extract, cache):
    server = serve()
    extract(server, turns(5) * 3)
    found, spent = extract(server, turns(6))
    assert (spent.requests, spent.cached) == (1, 5)
    assert set(server.asked.values()) == {1}
    assert words(found[5]) == ["number5"]
    assert len(cache) == 6


def test_a_file_that_is_no_cache_is_named(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_text("not a database, but long enough to have a header of its own" * 10)
    with pytest.raises(ValueError, match=r"answers\.sqlite cannot be used as an answer cache"):
        AnswerCache(path)
