import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivl_hf.jobs.outcomes import Drop, Failure, Tally, as_counter

OUTCOMES = st.one_of(
    st.just({"id": "1"}),
    st.builds(Drop, st.just("1"), st.sampled_from(["no image", "no answer"])),
    st.builds(Failure, st.just("1"), st.sampled_from(["broken", "cut off"])),
)


@given(st.lists(OUTCOMES), st.lists(OUTCOMES))
def test_everything_read_is_kept_dropped_or_failed(first, second):
    tallies = [Tally(), Tally()]
    for tally, outcomes in zip(tallies, (first, second), strict=True):
        for outcome in outcomes:
            tally.count(outcome)
    total = Tally()
    for tally in tallies:
        total.add(tally)
    assert total.read == len(first) + len(second)
    assert total.kept + total.dropped.total() + total.failed.total() == total.read
    assert Tally.from_dict(total.to_dict()) == total


def test_a_line_by_hand():
    tally = Tally()
    for outcome in ({"id": "1"}, {"id": "2"}, Drop("3", "no image"), Failure("4", "broken")):
        tally.count(outcome)
    assert tally.line() == "4 read = 2 kept + 1 dropped + 1 failed"
    assert tally.to_dict() == {"read": 4, "kept": 2, "dropped": {"no image": 1}, "failed": {"broken": 1}}


def test_counts_of_a_file_are_numbers():
    assert as_counter({"a": "3"}) == {"a": 3}
    for wrong in ({"a": "x"}, {"a": None}):
        with pytest.raises((TypeError, ValueError)):
            as_counter(wrong)
