"""Environments that are broken are told to their authors in one line."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlstab.envs.batch_env import BatchEnv
from rlstab.envs.foreign_world import ForeignWorld
from rlstab.envs.gym_vector import gymnasium_vec
from rlstab.errors import UserError, command


class Broken(gymnasium.Env):
    """Goes wrong in one way."""

    def __init__(self, how: str = "") -> None:
        self.how = how
        inner = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space: Any = spaces.Dict({"a": inner}) if "tree" in how else inner
        if how == "whole numbers":
            self.observation_space = spaces.Box(0, 255, (2,), np.uint8)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if self.how == "reset raises":
            raise RuntimeError("no simulator")
        return np.zeros(2, np.float32) if self.how == "bare reset" else (self.look(), {})

    def step(self, action: Any) -> Any:
        observation: Any = self.look()
        match self.how:
            case "four":
                return observation, 0.0, False, {}
            case "shape" | "tree shape":
                wrong = np.zeros(3, np.float32)
                return {"a": wrong} if "tree" in self.how else wrong, 0.0, False, False, {}
            case "tree keys":
                return {"b": observation["a"]}, 0.0, False, False, {}
            case "reward":
                return observation, np.zeros(1), False, False, {}
            case "no reward":
                return observation, None, False, False, {}
            case "flag":
                return observation, 0.0, np.zeros(1, bool), False, {}
            case "nothing":
                return None
            case "raises":
                return {}["gripper"]
            case "deep":
                return np.linalg.cholesky(-np.eye(2)), 0.0, False, False, {}
            case "whole numbers":
                return observation.astype(np.float32), 0.0, False, False, {}
        return observation, np.float32(0.0), np.array(False), False, {}

    def look(self) -> Any:
        space = self.observation_space
        return {"a": np.zeros(2, np.float32)} if isinstance(space, spaces.Dict) else np.zeros(2, space.dtype)


def begin_and_step(env: Any) -> None:
    env.reset()
    env.step(np.zeros(2, np.int64))


gymnasium.register("Broken-v0", Broken, max_episode_steps=50)

WAYS = [
    ("four", "step\\(\\) returned 4 values .*terminated, truncated, info"),
    ("shape", r"observation from step\(\) has shape \(3,\), its space \(2,\) \(Broken in test_foreign_world.py\)"),
    ("tree shape", r"observation\['a'\] from step\(\) has shape \(3,\)"),
    ("tree keys", r"has keys \['b'\], its space keys \['a'\]"),
    ("reward", r"the reward is an array of shape \(1,\) .*Return float\(reward\)"),
    ("no reward", "the reward is a NoneType"),
    ("flag", r"terminated is an array of shape \(1,\)"),
    ("nothing", r"step\(\) returned a NoneType|step\(\) raised TypeError: cannot unpack"),
    ("raises", r"step\(\) raised KeyError: 'gripper' \(test_foreign_world.py:\d+\)"),
    ("deep", r"step\(\) raised LinAlgError: .* \(test_foreign_world.py:\d+\)"),
    ("reset raises", r"reset\(\) raised RuntimeError: no simulator \(test_foreign_world.py:\d+\)"),
    ("bare reset", r"reset\(\) returned an array of shape \(2,\), not \(observation, info\)"),
    ("whole numbers", r"observation from step\(\) is float32, its space uint8"),
]


@pytest.mark.parametrize(("how", "told"), WAYS)
@pytest.mark.parametrize("maker", ["Broken-v0", Broken])
def test_what_is_broken_is_told_in_one_line(how, told, maker):
    env = gymnasium_vec(maker, 2, env_kwargs={"how": how})
    with pytest.raises(UserError, match=f"^Broken.*{told}") as caught:
        begin_and_step(env)
    assert "\n" not in str(caught.value)
    checker = command("check-env", "Broken-v0") if isinstance(maker, str) else "rlstab.envs.check.check_env(Broken)"
    assert str(caught.value).endswith(f"; this looks into it: {checker}")


@pytest.mark.parametrize("how", ["four", "shape", "reward", "raises", "reset raises", "whole numbers"])
def test_in_worker_processes_too_and_gymnasium_prints_nothing(how, recwarn, capfd):
    env = gymnasium_vec("Broken-v0", 2, mode="async", env_kwargs={"how": how})
    with pytest.raises(UserError, match=r"^Broken-v0: .*check-env"):
        begin_and_step(env)
    env.close()
    assert not [warning for warning in recwarn if "ERROR" in str(warning.message)]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("how", ["", "tree"])
def test_what_works_is_left_alone(how):
    env = gymnasium_vec("Broken-v0", 2, env_kwargs={"how": how})
    env.reset()
    _, reward, terminated, truncated, _ = env.step(np.zeros(2, np.int64))
    assert (reward.tolist(), terminated.any(), truncated.any()) == ([0.0, 0.0], False, False)


def test_an_exception_of_this_package_stays_one(monkeypatch):
    def crash(*_: Any, **__: Any) -> Any:
        return 1 / 0

    # As if the line of the division stood in the package.
    code = crash.__code__.replace(co_filename=BatchEnv.step.__code__.co_filename)
    monkeypatch.setattr(crash, "__code__", code)
    monkeypatch.setattr(Broken, "step", crash)
    env = gymnasium_vec("Broken-v0", 1)
    env.reset()
    with pytest.raises(ZeroDivisionError):
        env.step(np.zeros(1, np.int64))


def test_the_last_observation_is_a_copy():
    class Ending(Broken):
        def step(self, action: Any) -> Any:
            self.seen = self.look()
            return self.seen, 0.0, True, False, {}

    inner = Ending()
    world = ForeignWorld(inner, Ending)
    world.reset()
    assert world.step(0)[0] is not inner.seen
