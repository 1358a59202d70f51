from __future__ import annotations

from pathlib import Path

import pytest

from rlstab.runs.environment import EnvSettings
from rlstab.runs.run import Run

TRAINED = EnvSettings("Hopper-v5", 100, {"reset_noise_scale": 0.0})


def test_settings_come_from_the_configuration(tmp_path: Path) -> None:
    config = {"max_episode_steps": 100, "env_kwargs": {"reset_noise_scale": 0.0}}
    run = Run.create(tmp_path, method="ppo", env_id="Hopper-v5", config=config, seed=0, device="cpu", command=[])
    assert EnvSettings.of_run(run.info) == TRAINED
    bare = Run.create(tmp_path, method="ppo", env_id="Hopper-v5", config={}, seed=0, device="cpu", command=[])
    assert EnvSettings.of_run(bare.info) == EnvSettings("Hopper-v5")


def test_nothing_changes_where_it_stays() -> None:
    assert TRAINED.elsewhere(None) is TRAINED
    assert TRAINED.is_in(None)


@pytest.mark.parametrize("name", ["Hopper-v5", "rlstab/Hopper-v5", "Hopper", "rlstab/Hopper"])
def test_the_same_environment_keeps_its_settings(name: str) -> None:
    assert TRAINED.elsewhere(name) == EnvSettings(name, 100, {"reset_noise_scale": 0.0})


def test_another_environment_has_its_own() -> None:
    assert TRAINED.elsewhere("Hopper-v4") == EnvSettings("Hopper-v4", None, {})
    assert TRAINED.elsewhere("Walker2d-v5") == EnvSettings("Walker2d-v5", None, {})
    assert TRAINED.elsewhere(dict) == EnvSettings(dict, None, {})


def test_infinities_that_json_holds_as_words_are_numbers_again():
    settings = EnvSettings("Hopper-v5", env_kwargs={"healthy_z_range": [0.7, "inf"], "deep": {"low": "-inf"}, "s": "x"})
    infinity = float("inf")
    assert settings.env_kwargs == {"healthy_z_range": [0.7, infinity], "deep": {"low": -infinity}, "s": "x"}
