"""Go1Stand: what standing on the hind legs is, and pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstab.envs.check import check_env
from rlstab.envs.locomotion.legs import joint_positions
from rlstab.envs.registry import make_vec

ID = "rlstab/Go1Stand-v0"


def made(num_envs: int = 1, **kwargs: Any) -> Any:
    return make_vec(ID, num_envs, **{"num_threads": 1, **kwargs})


def rates(env: Any) -> dict[str, float]:
    """Terms a second in the present state."""
    terms, _ = env.task.outcome(env.task.measure(env.state), env.state, np.zeros((env.num_envs, 12)), env.dt)
    return {name: float(values[0]) / env.dt for name, values in terms.items()}


def stood(env: Any, height: float = 0.53, speed: float = 0.0) -> None:
    """Put world 0 nose up, facing +x with its belly, moving with ``speed`` along its command."""
    qpos, qvel = env.model.key_qpos[0].copy(), np.zeros(env.model.nv)
    qpos[2], qpos[3:7] = height, (np.sqrt(0.5), 0.0, -np.sqrt(0.5), 0.0)
    qvel[0] = speed
    env.physics.reset(np.arange(1), qpos[None], qvel[None])


def test_upright_at_full_height_pays_in_full():
    env = made()
    env.reset(seed=0)
    env.state.carried["command"][:] = 0.2
    stood(env, speed=0.2)
    found = rates(env)
    for name in ("height", "upright", "tracking_linear"):
        assert found[name] == pytest.approx(1.0, abs=1e-9), name
    assert found["front_contact"] == 0.0
    assert found["front_pose"] == 0.0


def test_the_other_way_is_the_wrong_way():
    env = made()
    env.reset(seed=0)
    env.state.carried["command"][:] = 0.2
    stood(env, speed=-0.2)
    assert rates(env)["tracking_linear"] == pytest.approx(np.exp(-0.16 / 0.05))


def test_tracking_counts_only_while_standing():
    env = made()
    env.reset(seed=0)
    env.state.carried["command"][:] = 0.0
    stood(env, height=0.4)
    found = rates(env)
    assert found["tracking_linear"] == 0.0
    assert found["height"] == pytest.approx(np.exp(-0.13))
    qpos = env.model.key_qpos[0]
    env.physics.reset(np.arange(1), qpos[None], np.zeros((1, env.model.nv)))
    found = rates(env)
    assert found["upright"] == pytest.approx(0.25)
    assert found["tracking_linear"] == 0.0


def test_front_feet_on_the_ground_and_bent_front_legs_cost():
    env = made()
    env.reset(seed=0)
    qpos = env.model.key_qpos[0].copy()
    qpos[2] -= 0.01
    qpos[joint_positions(env.model)[[1, 7]]] += 0.1  # A front and a hind thigh.
    env.physics.reset(np.arange(1), qpos[None], np.zeros((1, env.model.nv)))
    found = rates(env)
    assert found["front_contact"] == pytest.approx(-0.1)
    assert found["front_pose"] == pytest.approx(-0.1 * 0.01)


def test_leaning_over_backwards_ends_the_episode_and_standing_does_not():
    env = made()
    env.reset(seed=0)
    stood(env)
    assert not env.task.fallen(env.state)[0]
    qpos = env.physics.qpos.copy()
    qpos[0, 3:7] = np.cos(0.95), 0.0, -np.sin(0.95), 0.0  # 109 degrees
    env.physics.reset(np.arange(1), qpos, np.zeros((1, env.model.nv)))
    assert env.task.fallen(env.state)[0]


def test_the_command_lasts_an_episode_and_differs_between_worlds():
    env = made(200, max_episode_steps=3)
    env.reset(seed=0)
    first = env.state.carried["command"].copy()
    assert np.abs(first).max() <= 0.3
    assert first.std() == pytest.approx(0.3 / np.sqrt(3), rel=0.15)
    env.step(np.zeros((200, 12)))
    np.testing.assert_array_equal(env.state.carried["command"], first)
    for _ in range(2):
        env.step(np.zeros((200, 12)))
    assert (env.state.carried["command"] != first).mean() > 0.9


def test_the_environment_check_passes():
    assert check_env(ID) == []
    assert made().reset(seed=0)[0].shape == (1, 46)
