from fivl_hf.training.cards import training_card


def test_an_adapters_card(tmp_path):
    """A base model's folder is named nowhere, and PEFT's part has a heading of its own."""
    (tmp_path / "base").mkdir()
    options = {"load_name": "x", "dataset": None, "tags": ["a"], "settings": {}, "versions": {"trl": "1"}}
    card = training_card("x", base_model=str(tmp_path / "base"), adapter=True, **options)
    assert card.data.base_model is None
    assert card.data.library_name == "peft"
    assert "where `peft` is installed" in card.text
    assert "needs no further package" not in card.text
    assert "\n\n### Framework versions\n\n- trl: 1" in card.text
    assert training_card("x", base_model="me/base", **options).data.base_model == "me/base"
