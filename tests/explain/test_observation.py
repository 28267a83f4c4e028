import numpy as np
import torch

from fivl_hf.explain.lens import logit_lens
from fivl_hf.explain.observation import Wanted, observe, token_attention, vision_predictions
from fivl_hf.explain.samples import prepare


def test_one_pass_shows_what_three_do(model, processor, rows):
    sample = prepare(model.eval(), processor, rows[0])
    spans = [evidence.tokens for evidence in sample.evidence] + [np.empty(0, np.intp)]
    passes = []
    hook = model.base_model.register_forward_hook(lambda *_: passes.append(1))
    (seen,) = observe(model, [sample], [Wanted(spans, [5, 9])])
    hook.remove()
    assert len(passes) == 1
    assert seen.attention[-1] is None
    for found, alone in zip(seen.attention, token_attention(model, sample, spans), strict=True):
        assert np.array_equal(found.numpy(), alone) if alone is not None else found is None
    assert np.array_equal(seen.predicted, vision_predictions(model, sample))
    expected = logit_lens(model, sample, [5, 9])
    assert np.array_equal(seen.lens.ranks, expected.ranks)
    assert observe(model, [sample], [Wanted()])[0].lens is None
    # The same by eager attention.
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        full = model(**sample.inputs, output_attentions=True).attentions
    for span, found in zip(spans[:-1], seen.attention, strict=False):
        for layer, each in enumerate(full):
            own = each[0][:, span - 1][:, :, sample.image_positions].mean(1)
            torch.testing.assert_close(found[layer], own, atol=1e-5, rtol=0)
    with torch.inference_mode():
        logits = model(**sample.inputs).logits[0, sample.image_positions]
    assert np.array_equal(seen.predicted, logits.argmax(-1).numpy())
