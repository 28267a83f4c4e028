import pickle
from functools import partial

import pytest

from fivl_hf.augment.inputs.settings import InputSettings
from fivl_hf.augment.scenes import SceneGrounder
from fivl_hf.augment.tools import ToolSettings


def test_settings_travel_to_workers_and_make_their_tools_there():
    settings = pickle.loads(pickle.dumps(ToolSettings(grounder="scenes", tagger="hanta")))
    tools = settings(3)
    assert isinstance(tools.grounder, SceneGrounder)
    assert tools.tagger == "hanta"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"grounder": "dino"}, ValueError, "grounder must be one of .*'scenes'.* got 'dino'"),
        ({"grounder": "annotations"}, ValueError, "needs annotation files: --annotations"),
        ({"device": "toaster"}, ValueError, "toaster"),
        ({"detector": "./nowhere"}, FileNotFoundError, "there is no detector folder './nowhere'"),
        ({"grounder": "sam3", "dtype": "float7", "device": "cpu"}, ValueError, "dtype must be .* got 'float7'"),
    ],
)
def test_what_cannot_be_is_named(settings, error, message):
    tools = ToolSettings(**settings)
    use = tools.require_models if {"device", "detector"} & set(settings) == set(settings) else lambda: tools(0)
    with pytest.raises(error, match=message):
        use()


def test_grounders_without_models_need_none():
    for grounder in ("scenes", "annotations"):
        ToolSettings(grounder=grounder).require_models()


def test_every_setting_of_an_input_is_told_apart():
    """Runs are compared by their settings' text: two that read different samples must not look alike."""
    make = partial(InputSettings, "mix.json")
    several = [make(), make(limit=3), make(limit=3, seed=1), make(split="test"), make(config="a"), make(rename=False)]
    assert len(set(several)) == len({repr(settings) for settings in several}) == len(several)
