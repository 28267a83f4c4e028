import numpy as np
import pytest

from fivl_hf.explain.head_sets import HeadScores, head_sets, layer_windows, matched_heads, set_sizes


def scores(layers=4, heads=8, seed=0):
    rng = np.random.default_rng(seed)
    return HeadScores(rng.random((layers, heads)), rng.random((layers, heads)))


def test_heads_are_ranked_either_way_and_blind_ones_left_out():
    found = scores()
    found.auroc[0] = np.nan
    best, worst = found.ranked("aligned"), found.ranked("least aligned")
    assert len(best) == 24
    assert best == worst[::-1]
    assert best[0] == np.unravel_index(np.nanargmax(found.auroc), (4, 8))


def test_random_heads_are_of_the_same_layers_and_look_as_much():
    found, rng = scores(heads=16), np.random.default_rng(1)
    chosen = [(0, 3), (0, 5), (2, 1)]
    drawn = {tuple(matched_heads(chosen, found, rng)) for _ in range(200)}
    assert len(drawn) > 20
    for heads in drawn:
        assert [layer for layer, _ in heads] == [0, 0, 2]
        assert not set(heads) & set(chosen)
        assert len(set(heads)) == 3
        others = sorted(abs(found.mass[2, head] - found.mass[2, 1]) for head in range(16) if head != 1)
        assert abs(found.mass[heads[2]] - found.mass[2, 1]) in others[:4]
    # Of a single head, more are near enough.
    assert len({tuple(matched_heads([(0, 3)], found, rng)) for _ in range(400)}) == 15
    # A layer that has no other head left.
    whole = [(1, head) for head in range(16)]
    assert not set(matched_heads(whole, found, rng)) & set(whole)
    with pytest.raises(ValueError, match="63 heads cannot be matched: the model has 1 others"):
        matched_heads(found.ranked("aligned")[:63], found, rng)


def test_sets_of_all_sizes_with_random_ones():
    found = HeadScores(scores().auroc, scores().mass, ((3, 1), (2, 2), (3, 0)))
    sizes = set_sizes(found)
    assert sizes == [1, 2, 4, 8, 16]
    sets = head_sets(found, sizes, draws=3, seed=0)
    # Where half of the heads are chosen, the other half is the only set like it.
    assert len(sets) == (5 + 2 + 5) * 4 - 4
    assert sets["localization", 2, -1] == [(3, 1), (2, 2)]
    assert sets["aligned", 4, -1] == found.ranked("aligned")[:4]
    for (_, size, _), heads in sets.items():
        assert len(set(heads)) == size
    assert head_sets(found, sizes, draws=3, seed=0) == sets != head_sets(found, sizes, draws=3, seed=1)
    with pytest.raises(ValueError, match="sizes must be from 1 to 16, half of the 32 heads"):
        set_sizes(found, [17])


def test_windows_are_of_layers_that_see_the_image():
    found = scores()
    found.auroc[1] = np.nan
    windows = layer_windows(found, 2)
    assert list(windows) == [("layers", 2, 0), ("layers", 2, 2)]
    assert {layer for layer, _ in windows["layers", 2, 0]} == {0, 2}
    assert len(windows["layers", 2, 0]) == 16
    with pytest.raises(ValueError, match="a window must be of 1 to 3 layers"):
        layer_windows(found, 4)


def test_a_large_model_has_twenty_different_sets_of_every_size():
    found = scores(layers=32, heads=32)
    sizes = set_sizes(found)
    assert sizes == [1, 2, 4, 8, 16, 32, 64]
    sets = head_sets(found, sizes, draws=20, seed=0)
    for size in sizes:
        for name in ("aligned", "least aligned"):
            drawn = [heads for (kind, k, draw), heads in sets.items() if (kind, k) == (name, size) and draw >= 0]
            assert len({frozenset(heads) for heads in drawn}) == len(drawn) == 20


def test_ranks_of_heads_without_effect_are_even():
    """The share of p below 0.1, where what heads do has nothing to do with why they were chosen."""
    rng, low = np.random.default_rng(0), {1: 0, 2: 0, 4: 0}
    trials = 150
    for trial in range(trials):
        found, effect = scores(layers=4, heads=24, seed=trial), rng.normal(size=(4, 24))
        sets = head_sets(found, list(low), draws=19, seed=trial)
        for size in low:
            total = {
                draw: sum(effect[head] for head in heads)
                for (name, k, draw), heads in sets.items()
                if (name, k) == ("aligned", size)
            }
            own = total.pop(-1)
            low[size] += (1 + sum(each >= own for each in total.values())) / (1 + len(total)) <= 0.1
    assert all(count / trials < 0.17 for count in low.values()), low
