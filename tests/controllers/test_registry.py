from __future__ import annotations

import dataclasses

import pytest
from gymnasium import spaces

from rlstab.controllers import registry
from rlstab.controllers.config import BaseConfig
from rlstab.errors import UserError
from rlstab.runs.config import from_json, to_json, validate

METHODS = [info.name for info in registry.methods()]


def test_baselines_are_registered():
    assert METHODS[:4] == ["ppo", "sac", "td3", "dqn"]


def test_unknown_method_names_the_nearest_or_all():
    with pytest.raises(UserError, match="did you mean 'ppo'"):
        registry.get("ppp")
    with pytest.raises(UserError, match="the methods are ppo, sac"):
        registry.get("genetic-algorithm")


def test_a_name_is_taken_once():
    with pytest.raises(UserError, match="already registered"):
        registry.register(registry.get("sac"))


@pytest.mark.parametrize("method", METHODS)
def test_configurations_are_documented_frozen_and_valid(method):
    config_class = registry.get(method).config_class()
    config = config_class()
    validate(config)
    assert issubclass(config_class, BaseConfig)
    assert from_json(config_class, to_json(config)) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("method", METHODS)
def test_presets_hold_only_valid_settings(method):
    info = registry.get(method)
    for name in info.presets():
        preset = registry.load_preset(method, name)
        validate(preset.apply(info.config_class()()))


def test_preset_of_an_environment():
    preset = registry.load_preset("sac", "rlstab/Swimmer-v5")
    assert preset.name == "Swimmer-v5"
    assert preset.values["gamma"] == 0.9999


def test_environment_without_preset_and_no_preset_at_all():
    assert registry.load_preset("sac", "Unheard-v0") == registry.Preset(None, {})
    assert registry.load_preset("sac", "Swimmer-v5", "none") == registry.Preset(None, {})


def test_unknown_preset_is_named():
    with pytest.raises(UserError, match="did you mean 'Swimmer-v5'"):
        registry.load_preset("sac", "Hopper-v5", "Swimmer-v4")


def test_lists_become_tuples():
    assert registry.load_preset("dqn", "CartPole-v1").values["hidden_sizes"] == (256, 256)


@pytest.mark.parametrize(
    ("method", "space", "able"),
    [
        ("sac", spaces.Discrete(2), "ppo or dqn"),
        ("td3", spaces.Discrete(2), "ppo or dqn"),
        ("dqn", spaces.Box(-1.0, 1.0, (2,)), "ppo or sac or td3"),
    ],
)
def test_actions_a_method_lacks(method, space, able):
    with pytest.raises(UserError, match=f"train it with {able}"):
        registry.check_actions(method, "Some-v0", space)


def test_actions_no_method_has():
    with pytest.raises(UserError, match="wrap it"):
        registry.check_actions("dqn", "Some-v0", spaces.Dict({}))


def test_actions_that_do_not_start_at_zero():
    shifted = spaces.Discrete(3, start=-1)
    with pytest.raises(
        UserError, match="dqn numbers its actions from 0, but those of Some-v0 start at -1; train it with ppo"
    ):
        registry.check_actions("dqn", "Some-v0", shifted)
    registry.check_actions("ppo", "Some-v0", shifted)


def test_several_choices_at_once_are_for_ppo():
    for space in (spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)):
        registry.check_actions("ppo", "Some-v0", space)
        with pytest.raises(UserError, match="train it with ppo"):
            registry.check_actions("dqn", "Some-v0", space)


@pytest.mark.parametrize("method", METHODS)
def test_observations_that_are_not_read(method):
    with pytest.raises(UserError, match=f"Some-v0 observes a Dict, which {method} does not read; flatten it with"):
        registry.check_observations(method, "Some-v0", spaces.Dict({"a": spaces.Discrete(2)}))
    registry.check_observations(method, "Some-v0", spaces.Box(-1.0, 1.0, (2,)))


def test_observations_that_others_read():
    with pytest.raises(UserError, match="which ppo does not read; train it with sac or td3 or dqn"):
        registry.check_observations("ppo", "Some-v0", spaces.MultiBinary(2))


def test_fitting_actions_pass():
    registry.check_actions("ppo", "Some-v0", spaces.Discrete(2))
    registry.check_actions("sac", "Some-v0", spaces.Box(-1.0, 1.0, (2,)))
