import json

import pytest
import torch
import transformers as tf
from families import make

from fivl_hf.geometry import UnknownProcessorError
from fivl_hf.geometry.twin import small_twin


def test_a_twin_is_small_has_new_ids_and_sees_only_itself():
    _, model = make("LLaVA-1.5, crop")
    twin, ids = small_twin(type(model.config), json.dumps(model.config.to_dict()))
    assert type(twin) is type(model)
    assert sum(p.numel() for p in twin.parameters()) < 1_000_000
    assert twin.config.image_token_id == ids[model.config.image_token_id]
    assert next(twin.parameters()).dtype == torch.float64
    # Another token later, or earlier, changes nothing where every token sees only itself.
    tokens = torch.tensor([[5, 6, 7]])
    changed = torch.tensor([[9, 6, 8]])
    first, second = (twin.get_decoder()(input_ids=each).last_hidden_state[0, 1] for each in (tokens, changed))
    assert torch.equal(first, second)


def test_a_class_that_cannot_be_made_small_says_why():
    class Broken(tf.LlavaConfig):
        pass

    Broken.vision_config = None
    with pytest.raises(UnknownProcessorError, match="no small model of it could be made"):
        small_twin(Broken, json.dumps({}))
