import numpy as np
import pytest
import transformers as tf
from families import make, perceiver

from fivl_hf.geometry import UnknownProcessorError, token_boxes

SIDE = 168  # a cell of 21 pixels: fine enough for the probe


def unknown(processor):
    """The processor as one of a class nobody knows."""
    processor.__class__ = type("StrangeProcessor", (type(processor),), {})
    return processor


def test_an_unknown_processor_is_probed(caplog, monkeypatch):
    processor, model = make("LLaVA-1.5, pad", SIDE)
    known = token_boxes(processor, (200, 120))
    strange = unknown(processor)
    with pytest.raises(UnknownProcessorError, match="StrangeProcessor"):
        token_boxes(strange, (200, 120))
    monkeypatch.setattr(tf.utils.logging.get_logger("fivl_hf.geometry.probe"), "propagate", True)
    monkeypatch.setattr("fivl_hf.geometry.probe._told", set())
    token_boxes(strange, (100, 120), model_config=model.config)
    probed = token_boxes(strange, (200, 120), model_config=model.config)
    assert np.nanmean(np.abs(probed - known)) < 0.15
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "StrangeProcessor" in warning
    assert "64 visual tokens" in warning


def test_perceivers_are_refused_with_the_reason():
    processor, model = perceiver()
    with pytest.raises(UnknownProcessorError, match="sees too much of the image"):
        token_boxes(processor, (80, 50), model_config=model.config)


def test_what_cannot_be_probed_says_why():
    """Fuyu's config has no part for vision: its patches go into the language model as they are."""
    processor = unknown(make("PaliGemma")[0])
    with pytest.raises(UnknownProcessorError, match="FuyuConfig .* could not be probed"):
        token_boxes(processor, (80, 50), model_config=tf.FuyuConfig(image_token_id=4))


def test_probed_boxes_are_kept_by_number_of_images_and_model():
    processor, model = make("LLaVA-OneVision")
    strange = unknown(processor)
    alone, together = (len(token_boxes(strange, (200, 120), images=n, model_config=model.config)) for n in (1, 2))
    assert alone > together == 65


def test_a_family_nobody_described_is_probed(record_property):
    """Aya Vision: tiles, a thumbnail, pixel shuffle, laid out as InternVL's."""
    record_property("table", ("Aya Vision", "geometry"))
    processor, model = make("Aya Vision", SIDE)
    other, _ = make("InternVL", SIDE)
    other.image_processor = processor.image_processor
    for size in [(300, 150), (120, 333), (200, 200)]:
        probed, like = token_boxes(processor, size, model_config=model.config), token_boxes(other, size)
        assert probed.shape == like.shape
        assert np.abs(probed - like).mean() <= 0.15
