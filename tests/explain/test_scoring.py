import numpy as np
import pytest

from fivl_hf.explain import scoring
from fivl_hf.explain.other_images import OtherImages, image_groups
from fivl_hf.explain.samples import prepare_batch, readable
from fivl_hf.explain.scoring import score_batch


def scored(model, processor, rows, size, **options):
    """Scores of rows in batches of a size."""
    groups = image_groups(rows)
    others = OtherImages(rows, groups, processor.tokenizer)
    found = []
    for start in range(0, len(rows), size):
        numbers = range(start, min(start + size, len(rows)))
        samples = prepare_batch(model, processor, [readable(rows[number]) for number in numbers])
        keys = [groups[number] for number in numbers]
        found += score_batch(model, samples, keys, [others.of(number) for number in numbers], **options)
    return found


def require_equal(a, b):
    assert (a.id, a.image, len(a.expressions)) == (b.id, b.image, len(b.expressions))
    for one, other in zip(a.expressions, b.expressions, strict=True):
        assert one.skipped == other.skipped
        assert one.mask_share == other.mask_share
        assert np.allclose(one.alignment, other.alignment, atol=1e-4, equal_nan=True)
        assert set(one.measures) == set(other.measures)
        for name in set(one.measures) - {"pointing_game", "iou"}:  # of which a last bit can decide
            assert np.allclose(one.measures[name], other.measures[name], atol=1e-3, equal_nan=True)
            assert np.allclose(one.controls[name], other.controls[name], atol=1e-3, equal_nan=True)
        for name in ("pointing_game", "iou"):
            assert np.mean(np.isclose(one.measures[name], other.measures[name], atol=1e-3)) > 0.9
        assert one.segment == other.segment
        assert np.allclose(one.depth["rank"], other.depth["rank"], rtol=0.05, equal_nan=True)


@pytest.mark.parametrize("by_token", [False, True])
def test_padding_changes_nothing(model, processor, rows, by_token):
    given = rows[:6]
    lengths = {len(str(row["messages"])) for row in given}
    assert len(lengths) > 1
    together = scored(model, processor, given, 6, by_token=by_token)
    for alone, batched in zip(scored(model, processor, given, 1, by_token=by_token), together, strict=True):
        require_equal(alone, batched)


def test_little_memory_gives_the_same(model, processor, rows, monkeypatch):
    expected = scored(model, processor, rows[:4], 4)
    monkeypatch.setattr(scoring, "_VALUES", 1)
    for one, other in zip(expected, scored(model, processor, rows[:4], 4), strict=True):
        require_equal(one, other)


def test_rows_without_evidence_stand_among_others(model, processor, rows):
    bare = {**rows[1], "key_expressions": [], "masks": []}
    found = scored(model, processor, [rows[0], bare, rows[2]], 3)
    assert [len(row.expressions) for row in found] == [
        len(rows[0]["key_expressions"]),
        0,
        len(rows[2]["key_expressions"]),
    ]
    assert found[0].expressions[0].controls  # of the third row's image
