"""The logit lens of every family: after the last layer it is what the model itself predicts."""

import numpy as np
import pytest
import torch
from families import FAMILIES, enlarge, large_rows, make

from fivl_hf.explain.lens import logit_lens
from fivl_hf.explain.samples import prepare


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FAMILIES)
def test_after_the_last_layer_it_is_the_models_own_prediction(name, dtype, rows, record_property):
    record_property("table", (name, "lens"))
    processor, model = make(name)
    enlarge(model)
    with torch.no_grad():  # large logits, which meet a cap
        model.get_output_embeddings().weight.mul_(20)
    sample = prepare(model.eval(), processor, large_rows(rows[:1])[0])
    model = model.to(dtype)
    keywords = [5, 17]
    lens = logit_lens(model, sample, keywords)
    if name == "Mllama":
        assert lens is None
        return
    with torch.inference_mode():
        logits = model(**sample.inputs.to(model.device, dtype), use_cache=False).logits[0, sample.image_positions]
    layers = model.config.get_text_config().num_hidden_layers
    assert lens.ranks.shape == lens.log_probabilities.shape == (layers, 2, len(sample.image_positions))
    exact = dtype == torch.float32
    expected = logits.float().log_softmax(-1)[:, keywords].T
    np.testing.assert_allclose(lens.log_probabilities[-1], expected, atol=1e-4 if exact else 0.1)
    if exact:
        for column, found in zip(keywords, lens.ranks[-1], strict=True):
            # Equal logits but for the last bits may change places.
            own = (logits > logits[:, column, None]).sum(1).numpy() + 1
            assert np.abs(found - own).max() <= 1
    assert not np.allclose(lens.log_probabilities[0], lens.log_probabilities[-1], atol=1e-2)
