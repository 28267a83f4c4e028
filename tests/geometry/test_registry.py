import numpy as np
from families import make

from fivl_hf.geometry import register_token_boxes, registry, token_boxes


def test_boxes_are_kept_until_a_setting_changes():
    processor, _ = make("LLaVA-1.5, crop")
    first = token_boxes(processor, (100, 50))
    assert token_boxes(processor, (100, 50)) is first
    assert not first.flags.writeable
    processor.patch_size = 14
    assert len(token_boxes(processor, (100, 50))) == 16


def test_registering_replaces_what_was_kept(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(registry, "_SEVERAL", dict(registry._SEVERAL))
    processor, _ = make("PaliGemma")
    token_boxes(processor, (100, 50))
    mine = np.zeros((3, 4))
    register_token_boxes("PaliGemmaProcessor", lambda processor, size: mine)
    assert token_boxes(processor, (100, 50)) is mine
    monkeypatch.undo()
    registry._cache.clear()
