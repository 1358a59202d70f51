from __future__ import annotations

import pytest

GOOD = """
import gymnasium
import numpy as np

class Env(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        return self.observe(), REWARD, self.steps >= 10, False, {}

    def observe(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

gymnasium.register("NAME-v0", Env)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a user's module that registers an environment; gives ``module:Id``."""

    def write(name, reward):
        (tmp_path / f"{name}.py").write_text(GOOD.replace("NAME", name).replace("REWARD", reward))
        monkeypatch.syspath_prepend(tmp_path)
        return f"{name}:{name}-v0"

    return write


def test_a_good_environment(call, call_json, module):
    env = module("check_good", "1.0")
    code, out, _ = call("check-env", env)
    assert code == 0
    assert "would spoil" not in out
    assert call_json("check-env", env)[1]["ok"] is True


def test_a_bad_environment_is_told_what_to_mend(call, call_json, module):
    env = module("check_bad", "float('nan')")
    code, out, _ = call("check-env", env)
    assert code == 1
    assert "error" in out
    assert "would spoil a training" in out
    code, document = call_json("check-env", env)
    assert code == 1
    assert all(finding["fix"] for finding in document["findings"] if finding["level"] == "error")


def test_a_slip_in_the_name(refused):
    assert "did you mean 'CartPole-v1'" in refused("check-env", "CartPol-v1")
    assert "neither installed nor" in refused("check-env", "no_such_module_here:Env-v0")


def test_a_good_environment_of_ones_own_can_be_trained_on(call, module, tmp_path):
    env = module("check_train", "1.0")
    flags = ["--num-envs", 2, "--n-steps", 16, "--batch-size", 16, "--total-steps", 32, "--run-dir", tmp_path / "runs"]
    code, _, err = call("train", "ppo", "--env", env, *flags)
    assert code == 0, err


def test_nan_stops_training_with_one_line(refused, module, tmp_path):
    env = module("check_nan", "float('nan') if self.steps == 5 else 1.0")
    flags = ["--num-envs", 2, "--n-steps", 16, "--batch-size", 16, "--total-steps", 32, "--run-dir", tmp_path / "runs"]
    line = refused("train", "ppo", "--env", env, *flags)
    assert "NaN" in line
    assert "step" in line
    assert list((tmp_path / "runs").glob("*/failure/*"))
