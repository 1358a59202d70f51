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

    def write(name, reward, **changes):
        text = GOOD.replace("NAME", name).replace("REWARD", reward)
        for old, new in changes.values():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / f"{name}.py").write_text(text)
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


def test_methods_that_can_train_are_named(call, call_json, module):
    env = module("check_methods", "1.0")
    assert "methods that take its observations and actions: ppo, dqn, transformer_ppo" in call("check-env", env)[1]
    assert call_json("check-env", env)[1]["methods"] == ["ppo", "dqn", "transformer_ppo", "sa_ppo"]


def test_actions_of_whole_numbers_are_an_error_here_and_when_training(call_json, refused, module, tmp_path):
    box = ("spaces.Discrete(2)", "spaces.Box(-2, 2, (1,), np.int32)")
    env = module("check_whole", "1.0", actions=box)
    code, document = call_json("check-env", env)
    assert (code, document["methods"]) == (1, [])
    assert [finding["code"] for finding in document["findings"] if finding["level"] == "error"] == ["actions-whole"]
    for method in ("ppo", "sac", "td3", "dqn"):
        line = refused("train", method, "--env", env, "--run-dir", tmp_path / "runs")
        assert f"{method} acts in real numbers" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("method", ["ppo", "dqn"])
def test_an_environment_that_breaks_in_training_is_told_in_one_line_and_nothing_is_lost(
    call, refused, module, tmp_path, method
):
    crash = (
        "        self.steps += 1\n",
        "        self.steps += 1\n        self.total = getattr(self, 'total', 0) + 1\n",
    )
    raises = (", REWARD,", ", {}['reward'] if self.total == 40 else 1.0,")
    env = module(f"check_breaks_{method}", "REWARD", crash=crash, raises=raises)
    flags = ["--n-steps", 16, "--batch-size", 16] if method == "ppo" else ["--steps-per-iteration", 16]
    flags += ["--num-envs", 1, "--total-steps", 64, "--run-dir", tmp_path, "--name", "run"]
    line = refused("train", method, "--env", env, *flags)
    assert f"step() raised KeyError: 'reward' (check_breaks_{method}.py:" in line
    assert f"check-env {env}" in line
    assert "what was learned up to step 32 is kept in step-000000000032" in line
    assert f"train --resume {tmp_path / 'run'}" in line
    # Mended: another instance does not break before its own 40th step, and 32 are left.
    code, _, err = call("train", "--resume", tmp_path / "run")
    assert code == 0, err
    assert "going on at step 32" in err


def test_nan_stops_training_with_one_line(refused, module, tmp_path):
    env = module("check_nan", "float('nan') if self.steps == 5 else 1.0")
    flags = ["--num-envs", 2, "--n-steps", 16, "--batch-size", 16, "--total-steps", 32, "--run-dir", tmp_path / "runs"]
    line = refused("train", "ppo", "--env", env, *flags)
    assert "NaN" in line
    assert "step" in line
    assert list((tmp_path / "runs").glob("*/failure/*"))
