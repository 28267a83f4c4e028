import hashlib

import numpy as np
import pytest

from fivl_hf.explain.selection import HeadSelection, image_halves


def digest(number):
    return hashlib.sha256(str(number).encode()).hexdigest()[:16]


def selection(scores, controls=None, **options):
    """Of one expression per image."""
    made = HeadSelection(image_halves(map(digest, range(len(scores)))), **options)
    for number, each in enumerate(scores):
        made.add(digest(number), each, None if controls is None else controls[number])
    return made


def test_the_planted_head_is_chosen_and_noise_is_at_chance():
    rng = np.random.default_rng(0)
    noise = rng.normal(0.5, 0.1, (120, 32, 32))
    found = selection(noise, rng.normal(0.5, 0.1, noise.shape)).summary()
    # On the rows it was chosen on, the best of 1,024 looks better than it is.
    assert found["top_heads"][0]["score"] > 0.52
    low, high = found["held_out"]["confidence_interval"]
    assert low < 0.5 < high
    assert high - low < 0.06
    over_low, over_high = found["held_out"]["over_control"]["confidence_interval"]
    assert over_low < 0 < over_high
    assert found["top_heads"][0]["chosen_again"] < 0.9

    noise[:, 7, 3] += 0.3
    found = selection(noise, rng.normal(0.5, 0.1, noise.shape)).summary()
    first = found["top_heads"][0]
    assert (first["layer"], first["head"], first["chosen_again"]) == (7, 3, 1.0)
    assert found["held_out"]["heads"] == [[7, 3], [7, 3]]
    assert found["held_out"]["value"] == pytest.approx(noise[:, 7, 3].mean(), abs=1e-5)
    assert found["held_out"]["over_control"]["confidence_interval"][0] > 0.2


def test_means_by_hand_and_in_any_order():
    rng = np.random.default_rng(1)
    scores = rng.random((150, 2, 3))
    scores[::4, 0, 1] = np.nan
    found = selection(scores).summary()
    assert np.allclose(found["alignment"], np.nanmean(scores, axis=0), atol=1e-5)
    assert found["control_alignment"] == [[None] * 3] * 2
    choosing = image_halves(map(digest, range(150)))
    halves = np.array([digest(number) in choosing for number in range(150)])
    chosen = [np.nanargmax(np.nanmean(scores[half], axis=0)) for half in (halves, ~halves)]
    flat = scores.reshape(150, -1)
    own = np.concatenate([flat[~halves, chosen[0]], flat[halves, chosen[1]]])
    assert found["held_out"]["value"] == pytest.approx(np.nanmean(own), abs=1e-5)
    assert found["held_out"]["n"] == 150

    turned = HeadSelection(choosing)
    for number in reversed(range(150)):
        turned.add(digest(number), scores[number], None)
    again = turned.summary()["held_out"]
    assert again["confidence_interval"] == pytest.approx(found["held_out"]["confidence_interval"], abs=1e-5)


def test_the_interval_is_that_of_a_bootstrap_over_images():
    """Ten expressions about each image that are all alike say no more than one does."""
    rng = np.random.default_rng(2)
    scores = rng.random((60, 1, 1))
    alone = selection(scores).summary()["held_out"]["confidence_interval"]
    repeated = HeadSelection(image_halves(map(digest, range(60))))
    for number, each in enumerate(scores):
        for _ in range(10):
            repeated.add(digest(number), each, None)
    assert repeated.summary()["held_out"]["confidence_interval"] == pytest.approx(alone, abs=1e-4)
    means = [rng.choice(scores.ravel(), 60).mean() for _ in range(4000)]
    assert alone == pytest.approx(np.quantile(means, (0.025, 0.975)), abs=0.02)


def test_lower_is_better_for_errors():
    scores = np.array([[[0.5, 0.1]]] * 10)
    found = selection(scores, higher_is_better=False).summary(count=1)
    assert found["top_heads"][0]["head"] == 1
    assert found["held_out"]["value"] == pytest.approx(0.1)


def test_one_image_cannot_be_halved():
    found = selection(np.ones((1, 2, 2))).summary()
    assert found["held_out"]["value"] is None
    assert "too few images" in found["held_out"]["reason"]
    assert HeadSelection(()).summary()["held_out"]["reason"] == "no expressions"
    constant = selection(np.full((4, 1, 2), np.nan)).summary()
    assert constant["top_heads"] == []
    assert (constant["held_out"]["value"], constant["held_out"]["reason"][:7]) == (None, "no head")


def test_a_threshold_is_chosen_with_its_head():
    """The threshold that is best on one half is used on the other; a head's own best one is named."""
    rng = np.random.default_rng(2)
    scores = rng.normal(0.3, 0.05, (80, 2, 3, 4))
    scores[:, 1, 2, 1] += 0.2
    scores[:, 0, 0, 3] += 0.1
    found = selection(scores, scores - 0.1, thresholds=(0.2, 0.4, 0.6, 0.8)).summary(count=2)
    first, second = found["top_heads"]
    assert (first["layer"], first["head"], first["threshold"]) == (1, 2, 0.4)
    assert (second["layer"], second["head"], second["threshold"]) == (0, 0, 0.8)
    assert first["control"] == pytest.approx(first["score"] - 0.1, abs=1e-5)
    held_out = found["held_out"]
    assert held_out["heads"] == [[1, 2], [1, 2]]
    assert held_out["thresholds"] == [0.4, 0.4]
    assert held_out["value"] == pytest.approx(scores[:, 1, 2, 1].mean(), abs=1e-5)
    assert np.allclose(found["alignment"], scores.mean(axis=0).max(axis=-1), atol=1e-5)


def test_noise_stays_at_its_mean_with_thresholds_too():
    rng = np.random.default_rng(3)
    noise = rng.normal(0.3, 0.1, (120, 16, 16, 4))
    found = selection(noise, thresholds=(0.2, 0.4, 0.6, 0.8)).summary()
    low, high = found["held_out"]["confidence_interval"]
    assert low < 0.3 < high
    assert found["top_heads"][0]["score"] > 0.32


def test_halves_are_even_seeded_and_in_any_order():
    images = [digest(number) for number in range(11)]
    half = image_halves(images)
    assert len(half) == 5
    assert image_halves(reversed(images)) == half
    assert image_halves([*images, *images]) == half
    assert len({image_halves(images, seed) for seed in range(20)}) > 10
    assert image_halves(images[:1]) == frozenset()
    assert len(image_halves(images[:2])) == 1


def test_few_images_are_noted():
    scores = np.random.default_rng(0).random((12, 2, 3))
    assert selection(scores).summary()["held_out"]["note"] == "with 12 images, the interval is too narrow"
    many = np.random.default_rng(0).random((60, 2, 3))
    held_out = selection(many).summary()["held_out"]
    assert "note" not in held_out
    assert held_out["images"] == 60
