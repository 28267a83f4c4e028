import numpy as np

from fivl_hf.scenes.photographs import ATLAS, BACKGROUNDS, CUT_OUTS, TILE, backgrounds, cut_out


def test_the_photographs_are_a_small_file_of_real_pictures():
    assert ATLAS.stat().st_size < 60_000
    pictures = backgrounds()
    assert pictures.shape == (len(BACKGROUNDS), TILE, TILE, 3)
    assert pictures.reshape(len(BACKGROUNDS), -1).std(axis=1).min() > 10


def test_cut_outs_fill_a_part_of_their_square_and_turn():
    for name in CUT_OUTS:
        upright, turned = cut_out(name, 24, 0), cut_out(name, 24, 90)
        assert upright.shape == (24, 24, 4)
        inside = upright[..., 3] >= 128
        assert 0.2 < inside.mean() < 0.9
        assert np.mean(inside != (turned[..., 3] >= 128)) > 0.01 or name == "coin"
