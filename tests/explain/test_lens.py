import numpy as np
import pytest
import torch

from fivl_hf.explain.lens import Lens, keyword_depth, logit_lens
from fivl_hf.explain.samples import prepare


def test_depth_by_hand():
    ranks = np.array([[[1, 4, 100, 100]], [[1, 1, 10, 1000]]])
    lens = Lens(np.concatenate([ranks, ranks * 2], axis=1), np.log([[[0.5, 0.1, 1e-9, 1e-9]] * 2] * 2))
    depth = keyword_depth(lens, 0, 1, np.array([1.0, 1.0, 0.0, np.nan]))
    # Geometric means; the last token sees nothing of the image.
    assert depth.rank.tolist() == [pytest.approx([2, 100, 4]), pytest.approx([1, 10, 2])]
    assert depth.probability[0].tolist() == pytest.approx([0.3, 0, 0.3], abs=1e-6)
    # A token counts by how much of it is covered.
    half = keyword_depth(lens, 0, None, np.array([1.0, 0.5, 0.0, 0.0]))
    assert half.rank[0][0] == pytest.approx(4 ** (1 / 3))
    assert np.isnan(half.rank[:, 2]).all()
    assert keyword_depth(lens, 0, None, np.zeros(4)) is None
    assert keyword_depth(lens, 0, None, np.ones(4)) is None


def test_a_word_that_is_written_into_the_patches_is_known_from_there_on(model, processor, rows):
    """The second layer adds the word's own direction to every image position."""
    sample = prepare(model.eval(), processor, rows[0])
    word = 7
    direction = model.get_output_embeddings().weight[word].detach()

    def write(_, __, output):
        hidden = (output if isinstance(output, torch.Tensor) else output[0]).clone()
        hidden[:, sample.image_positions] += 1000 * direction
        return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

    hook = model.get_decoder().layers[1].register_forward_hook(write)
    ranks = logit_lens(model, sample, [word]).ranks[:, 0]
    hook.remove()
    assert ranks[0].mean() > 3
    assert (ranks[1] == 1).mean() > 0.9


def test_a_decoder_without_a_final_norm_is_named(model, processor, rows):
    sample = prepare(model.eval(), processor, rows[0])
    del model.get_decoder().norm
    with pytest.raises(ValueError, match="LlamaModel has no layers with a final norm"):
        logit_lens(model, sample, [1])
