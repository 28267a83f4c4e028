from types import SimpleNamespace

import pytest

from fivl_hf.training.callbacks import SetEpochCallback


@pytest.mark.parametrize(("resumed_at", "epochs"), [(None, [0, 1, 2]), (0.0, [0, 1, 2]), (2.5, [2, 3, 4])])
def test_epochs_are_counted_from_where_a_run_is_resumed(resumed_at, epochs):
    collator = SimpleNamespace(epoch=-1)
    callback = SetEpochCallback(collator)
    state = SimpleNamespace(epoch=resumed_at)
    callback.on_train_begin(None, state, None)
    seen = []
    for _ in epochs:
        callback.on_epoch_begin(None, state, None)
        seen.append(collator.epoch)
    assert seen == epochs
