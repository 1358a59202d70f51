from __future__ import annotations

import sys

import gymnasium
import pytest

from rlstab.envs.gym_make import make_one
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


def test_an_id_without_version_means_the_latest():
    with pytest.warns(UserWarning, match="latest versioned environment"):
        assert make_one("CartPole").spec is not None
