import numpy as np

from fivl_hf.building.tensors import load_grid


def test_released_tensor_is_read_exactly():
    from synthetic_release import released_tensor

    grid = np.arange(576, dtype=np.float32).reshape(24, 24) / 575 * 255
    assert np.array_equal(load_grid(released_tensor(grid)), grid.astype(np.float64) / 255)
