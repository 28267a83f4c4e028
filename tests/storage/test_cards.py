import pytest
import yaml

from fivl_hf.schema import BENCHMARK_FEATURES, FEATURES
from fivl_hf.storage.cards import CardContent, WrittenFiles, as_list, config_rows, dataset_card, read_card

TRAIN, TEST = WrittenFiles("data/train-*.parquet", 10, 1_000, 600), WrittenFiles("data/test-*.parquet", 2, 200, 100)


def front_of(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_one_configuration_by_hand():
    about = CardContent("My set", "Made of things.", front={"license": "mit", "tags": ["fivl", "vqa"]})
    card = dataset_card(about, {"default": {"train": [TRAIN], "test": [TEST]}}, FEATURES)
    front = front_of(card)
    assert front["pretty_name"] == "My set"
    assert front["license"] == "mit"
    assert front["tags"] == ["fivl", "vqa"]
    assert front["configs"] == [
        {
            "config_name": "default",
            "default": True,
            "data_files": [
                {"split": "train", "path": "data/train-*.parquet"},
                {"split": "test", "path": "data/test-*.parquet"},
            ],
        }
    ]
    assert front["dataset_info"]["download_size"] == 700
    assert config_rows(front) == {"default": {"train": 10, "test": 2}}
    assert "| train | 10 |" in card
    assert read_card(card)[1].startswith("Made of things.")


def test_parts_are_configurations_and_pictures_are_shown():
    configs = {"default": {"test": [TRAIN, TEST]}, "with_evidence": {"test": [TEST]}}
    about = CardContent("Q", body="## Columns", pictures=[("pictures/00.jpg", "A row")])
    card = dataset_card(about, configs, BENCHMARK_FEATURES)
    front = front_of(card)
    assert [config.get("default", False) for config in front["configs"]] == [True, False]
    assert front["configs"][0]["data_files"][0]["path"] == [TRAIN.pattern, TEST.pattern]
    assert config_rows(front) == {"default": {"test": 12}, "with_evidence": {"test": 2}}
    assert "| with_evidence | test | 2 |" in card
    assert "![A row](pictures/00.jpg)" in card
    assert "Each row is a conversation" not in card


@pytest.mark.parametrize("text", ["# A title", "---\n{a: [\n---\n# x", "---\n" + "[" * 5_000 + "\n---\nx"])
def test_a_card_without_front_matter_is_an_error(text):
    with pytest.raises(ValueError):
        read_card(text)


def test_one_alone_is_a_list():
    assert as_list({"a": 1}) == [{"a": 1}]
    assert as_list([1, 2]) == [1, 2]
