import pytest

from fivl_hf import FiVLTrainer


def test_wrong_options_are_named(model, processor, dataset, config):
    with pytest.raises(ValueError, match=r"'<nothing>' is not a token of the tokenizer"):
        FiVLTrainer(
            model, config(vision_background_token="<nothing>"), train_dataset=dataset, processing_class=processor
        )
    for name, value in (("vision_loss_schedule", "step"), ("vision_expression_weight", "area")):
        with pytest.raises(ValueError, match=f"{name} must be one of .*got '{value}'"):
            config(**{name: value})


def test_warm_up_may_be_a_share_of_all_steps(config):
    assert [config(vision_loss_warmup_steps=w).vision_warmup(50) for w in (0, 0.03, 0.5, 7)] == [0, 2, 25, 7]
    for wrong in (1.5, "3", -2):
        with pytest.raises(ValueError, match="vision_loss_warmup_steps must be a number of steps, or a share"):
            config(vision_loss_warmup_steps=wrong)


def test_the_papers_protocol_excludes_what_departs_from_it(config):
    assert config(vision_protocol="paper", vision_loss_weight=0.5).vision_options().protocol == "paper"
    for name, value in (("vision_overlap", "smallest"), ("vision_keyword", "head"), ("vision_max_coverage", 0.5)):
        with pytest.raises(ValueError, match=f"vision_protocol='paper' excludes {name}={value!r}"):
            config(vision_protocol="paper", **{name: value})
    with pytest.raises(ValueError, match="vision_protocol must be one of"):
        config(vision_protocol="papers")
