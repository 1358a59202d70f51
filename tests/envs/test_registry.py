"""Which implementation a name stands for, and what is said about arguments that make no sense."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from rlstab.envs.batch_env import BatchEnv
from rlstab.envs.disturbance import ActionDelay
from rlstab.envs.gym_make import resolve_id
from rlstab.envs.registry import make_task, make_vec, runs_natively
from rlstab.errors import UserError


@pytest.mark.parametrize("env_id", ["InvertedPendulum", "rlstab/InvertedPendulum"])
def test_an_id_without_version_is_native_too_and_nothing_warns(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make_vec(env_id, 2)
    assert isinstance(env, BatchEnv)
    assert env.task.id == make_task(env_id).id == "InvertedPendulum-v5"
    assert runs_natively(env_id)
    env.close()


def test_an_id_of_a_module_is_completed_once_the_module_is_imported(tmp_path, monkeypatch):
    lines = ("import gymnasium", *(f"gymnasium.register('Arm-v{n}', lambda: None)" for n in (2, 10, 1)))
    (tmp_path / "arms_of_mine.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_id("arms_of_mine:Arm-v2") == "arms_of_mine:Arm-v2"
    assert "Arm-v2" not in gymnasium.registry
    assert resolve_id("arms_of_mine:Arm") == "arms_of_mine:Arm-v10"
    with pytest.raises(UserError, match="module 'no_such_module_here'"):
        resolve_id("no_such_module_here:Arm")


def test_ids_that_need_no_completion_stay():
    gymnasium.register("Versionless", CartPoleEnv)
    assert resolve_id("Versionless") == "Versionless"
    assert resolve_id("Hopper-v4") == "Hopper-v4"
    assert resolve_id("Nothing") == "Nothing"
    assert resolve_id("no id at all!") == "no id at all!"


@pytest.mark.parametrize("backend", ["auto", "native", "gymnasium"])
def test_a_setting_that_nothing_has_shows_those_there_are(backend):
    with pytest.raises(UserError, match=r"Hopper-v5 has no setting foo; it has ctrl_cost_weight, .*healthy_reward"):
        make_vec("Hopper-v5", env_kwargs={"foo": 3}, backend=backend)
    with pytest.raises(UserError, match=r"did you mean 'reset_noise_scale'\? It has "):
        make_vec("Hopper-v5", env_kwargs={"reset_nois_scale": 0.1}, backend=backend)


def test_a_setting_that_gymnasium_alone_has_is_for_its_environment():
    env = make_vec("InvertedPendulum-v5", env_kwargs={"width": 100})
    assert not isinstance(env, BatchEnv)
    env.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"backend": "foo"}, "backend is 'auto' or 'native' or 'gymnasium', not 'foo'"),
        ({"num_envs": 2.5}, "num_envs must be a whole number, as in num_envs=8, not 2.5"),
        ({"num_envs": "4"}, "num_envs must be a whole number, as in num_envs=8, not '4'"),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"seed": None}, "seed must be a whole number, as in seed=0, not None"),
        ({"disturbances": 3}, "3 is not a disturbance"),
        ({"disturbances": [ActionDelay(1), "x"]}, "'x' is not a disturbance"),
        ({"disturbances": "latncy=1"}, "did you mean 'latency'"),
    ],
)
@pytest.mark.parametrize("env_id", ["InvertedPendulum-v5", "CartPole-v1"])
def test_arguments_of_the_wrong_kind_are_refused_in_one_line(env_id, arguments, words):
    with pytest.raises(UserError) as caught:
        make_vec(env_id, **arguments)
    told = str(caught.value)
    assert words in told or ("disturbances" in arguments and "native environments only" in told)
    assert "\n" not in told


@pytest.mark.parametrize("given", [ActionDelay(1), [ActionDelay(1)], (ActionDelay(1),), "latency=1"])
def test_disturbances_come_in_any_form(given: Any):
    env = make_vec("InvertedPendulum-v5", disturbances=given)
    assert len(env.disturbances) == 1  # type: ignore[attr-defined]
    env.close()
    alone = gymnasium.make("rlstab/InvertedPendulum-v5", disturbances=given)
    assert len(alone.unwrapped.batch.disturbances) == 1  # type: ignore[attr-defined]
    alone.close()


@pytest.mark.parametrize(
    ("env_id", "name"), [("rlstab/CarTracking-v0", "max_control"), ("Hopper-v5", "ctrl_cost_weight")]
)
@pytest.mark.parametrize("given", ["abc", None])
def test_what_is_no_number_is_refused_by_name(env_id, name, given):
    with pytest.raises(UserError, match=f"{name} must be a number, got"):
        make_task(env_id, **{name: given})
