from __future__ import annotations

import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.wrappers import TimeLimit

from rlstab.envs import gym_make
from rlstab.envs.gym_make import cause, draws_with_mujoco, make_one
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError


def test_a_module_of_the_user_registers_its_environment(tmp_path, monkeypatch):
    (tmp_path / "robot_tasks.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gymnasium.register('MyRobot-v3', entry_point=CartPoleEnv, max_episode_steps=10)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    env = make_vec("robot_tasks:MyRobot-v3", 2)
    assert env.reset(seed=0)[0].shape == (2, 4)
    with pytest.raises(UserError, match="did you mean 'MyRobot-v3'"):
        make_vec("robot_tasks:MyRobt-v3", 2)
    del gymnasium.registry["MyRobot-v3"], sys.modules["robot_tasks"]


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("CartPol-v1", "did you mean 'CartPole-v1'"),
        ("zzqqxx", "module:Id"),
        ("zzqqxx-v0", "module:Id"),
        ("not//an id", "there is no environment"),
        ("no_such_module:Robot-v0", "neither installed nor in the working directory"),
        ("CartPole-v99", "did you mean 'CartPole-v1'"),
    ],
)
def test_unknown_environments_are_refused_in_one_line(env_id, words):
    with pytest.raises(UserError, match=words) as caught:
        make_vec(env_id)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_is_told_from_one_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_more.py").write_text("import surely_not_installed\n")
    (tmp_path / "fails.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match="needs 'surely_not_installed'"):
        make_vec("needs_more:Robot-v0")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        make_vec("fails:Robot-v0")


def test_a_module_in_the_working_directory_is_found(tmp_path, monkeypatch):
    """Also where Python was not told to look there, as in the script that pip installs."""
    (tmp_path / "robot_lying_here.py").write_text(
        "import gymnasium\nfrom gymnasium.envs.classic_control.cartpole import CartPoleEnv\n"
        "gymnasium.register('LyingRobot-v0', CartPoleEnv)\n"
    )
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    monkeypatch.chdir(tmp_path)
    assert make_one("robot_lying_here:LyingRobot-v0").action_space is not None
    with pytest.raises(UserError, match=r"module 'no_pack\.age' .* is neither installed nor in the working directory"):
        make_one("no_pack.age:LyingRobot-v0")


def test_an_id_without_version_means_the_latest():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_one("CartPole").spec is not None


class Unbuildable(CartPoleEnv):
    def __init__(self, render_mode: str | None = None) -> None:
        message = "robot.xml\nis not there"
        raise FileNotFoundError(message)


def test_a_constructor_that_fails_is_told_in_one_line_with_its_place():
    gymnasium.register("Unbuildable-v0", entry_point=Unbuildable)
    for env_id, name in ((Unbuildable, "Unbuildable"), ("Unbuildable-v0", "Unbuildable-v0")):
        with pytest.raises(UserError, match=rf"{name} can't be made: FileNotFoundError: robot.xml is not") as caught:
            make_one(env_id)
        assert f"(test_gym_make.py:{Unbuildable.__init__.__code__.co_firstlineno + 2})" in str(caught.value)
        assert isinstance(caught.value.__cause__, FileNotFoundError)
    del gymnasium.registry["Unbuildable-v0"]


def test_a_users_error_in_a_constructor_is_passed_on_as_it_is():
    def refuse(**settings: Any) -> Any:
        raise UserError("the robot needs a name")

    gymnasium.register("Refusing-v0", entry_point=refuse)
    with pytest.raises(UserError, match=r"^the robot needs a name$"):
        make_one("Refusing-v0")
    del gymnasium.registry["Refusing-v0"]


def test_an_exception_without_a_place_has_no_place_in_its_line():
    assert cause(ValueError("two\n  lines")) == "ValueError: two lines"


def steps_until_truncated(env: Any, most: int = 12) -> int | None:
    """Of a pole that cannot fall."""
    env.reset(seed=0)
    for step in range(1, most + 1):
        if env.step(0)[3]:
            return step
    return None


@pytest.mark.parametrize(("limit", "expected"), [(None, 4), (2, 2), (9, 9), (-1, None)])
def test_the_time_limits_of_a_made_environment_are_kept_replaced_or_removed(limit, expected):
    def make() -> Any:
        env = CartPoleEnv()
        env.theta_threshold_radians = env.x_threshold = np.inf
        return TimeLimit(gymnasium.wrappers.TransformReward(TimeLimit(env, 4), lambda reward: reward), 6)

    assert steps_until_truncated(make_one(make, limit)) == expected


def test_only_environments_with_a_compiled_model_draw_with_mujoco(monkeypatch):
    import mujoco  # noqa: F401

    asked: list[str] = []
    monkeypatch.setattr(gym_make, "choose_backend", lambda: asked.append("backend"))
    cart = make_one("CartPole-v1", env_kwargs={"render_mode": "rgb_array"})
    assert (draws_with_mujoco(cart), asked) == (False, [])
    hopper = make_one("Hopper-v5", env_kwargs={"render_mode": "rgb_array"})
    assert (draws_with_mujoco(hopper), asked) == (True, ["backend"])
