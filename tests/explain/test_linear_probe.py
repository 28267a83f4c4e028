import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.explain.linear_probe import linear_probe, probe_patches


@given(st.integers(0, 1000), st.integers(2, 5))
def test_separable_features_are_read_without_error(seed, keywords):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, keywords, 200) * 7
    labels[:keywords] = np.arange(keywords) * 7
    features = np.eye(keywords)[labels // 7] + rng.normal(0, 0.05, (200, keywords))
    assert (linear_probe(features[:100], labels[:100], features) == labels).mean() > 0.98


def test_features_without_the_label_are_read_no_better_than_chance():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 2000)
    features = rng.normal(0, 1, (2000, 8))
    right = (linear_probe(features[:1000], labels[:1000], features[1000:]) == labels[1000:]).mean()
    assert right == pytest.approx(0.25, abs=0.05)


def test_batches_do_not_matter(model, processor):
    """The same patches, and about the same accuracy, whatever rows are read together."""
    known, new = list(scene_rows("validation", 60)), list(scene_rows("test", 30))
    found, other = (probe_patches(model, processor, known, new, batch_size=size) for size in (7, 30))
    assert found["patches"] == other["patches"] > 100
    assert 0 < found["most_frequent"] < 0.5
    for name in ("tower", "language_model"):
        low, high = found[name]["confidence_interval"]
        assert 0 <= low <= found[name]["accuracy"] <= high <= 1
        assert found[name]["accuracy"] == pytest.approx(other[name]["accuracy"], abs=0.03)


def test_rows_without_evidence_and_models_without_a_projector_are_refused(model, processor, rows):
    bare = [row | {"key_expressions": [], "masks": []} for row in rows[:4]]
    with pytest.raises(ValueError, match="no patch"):
        probe_patches(model, processor, bare, rows[:4])

    class Other:
        model = None

    with pytest.raises(ValueError, match="no model.multi_modal_projector"):
        probe_patches(Other(), processor, rows, rows)
