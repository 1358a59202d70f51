"""The environments are their matrices, through the same path of actions and forces as robots."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from rlstab.analysis.robustness import linear
from rlstab.envs.disturbance import ExternalWrench
from rlstab.envs.linear.systems import SYSTEMS
from rlstab.envs.registry import make_task, make_vec, own_ids, runs_natively
from rlstab.errors import UserError

IDS = {name: f"rlstab/LinearQuadratic-{name}-v0" for name in SYSTEMS}


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_a_step_is_that_of_the_matrices(name: str) -> None:
    system = SYSTEMS[name]()
    env: Any = make_vec(IDS[name], 3, seed=1, disturbances=ExternalWrench("load", (0.7, 5.0, 5.0)))
    x, _ = env.reset(seed=1)
    assert np.abs(x).min() > 0
    rng = np.random.default_rng(0)
    for _ in range(5):
        u = rng.standard_normal((3, system.control_size)).astype(np.float32)
        after, reward, terminated, truncated, _ = env.step(u)
        u = u.astype(np.float64)
        np.testing.assert_allclose(after, x @ system.a.T + u @ system.b.T + 0.7 * system.e[:, 0], rtol=1e-12)
        cost = np.einsum("ni,ij,nj->n", x, system.q, x) + np.einsum("ni,ij,nj->n", u, system.r, u)
        np.testing.assert_allclose(reward, -cost, rtol=1e-12)
        assert not (terminated | truncated).any()
        x = after


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_the_exact_worst_disturbance_has_its_gain_in_the_environment(name: str) -> None:
    system, steps = SYSTEMS[name](), 100
    gain_matrix = linear.lqr(system)
    gain, disturbance = linear.finite_horizon_gain(linear.close(system, gain_matrix), steps)
    env: Any = make_vec(IDS[name], 1, disturbances=ExternalWrench("load"), env_kwargs={"start_std": 0.0})
    x, _ = env.reset(seed=0)
    energy = 0.0
    for push in disturbance:
        # As a learned disturber acts: by overwriting the value.
        env.disturbances[0].value[0, : len(push)] = push
        x, reward, *_ = env.step(-x @ gain_matrix.T)
        energy -= float(reward[0])
    assert np.sqrt(energy) == pytest.approx(gain, rel=1e-6)


def test_an_episode_lasts_two_hundred_steps_and_the_next_begins_elsewhere() -> None:
    env: Any = make_vec(IDS["S2"], 2, seed=3)
    first, _ = env.reset(seed=3)
    for step in range(200):
        observation, _, terminated, truncated, infos = env.step(np.zeros((2, 1)))
        assert truncated.all() == (step == 199)
        assert not terminated.any()
    assert infos["_final_obs"].all()
    assert not np.allclose(observation, first)


def test_it_goes_on_from_a_state_exactly() -> None:
    envs: list[Any] = [make_vec(IDS["S3"], 2, seed=0) for _ in range(2)]
    for env in envs:
        env.reset(seed=0)
    envs[0].step(np.ones((2, 1)))
    envs[1].load_state_dict(envs[0].state_dict())
    ours, theirs = (env.step(-np.ones((2, 1)))[0] for env in envs)
    np.testing.assert_array_equal(ours, theirs)


def test_it_is_known_everywhere() -> None:
    for env_id in IDS.values():
        assert env_id in own_ids()
        assert runs_natively(env_id)
        env = gymnasium.make(env_id)
        observation, _ = env.reset(seed=0)
        assert env.observation_space.shape == observation.shape
        env.close()


def test_what_a_linear_system_lacks_is_said() -> None:
    with pytest.raises(UserError, match="start_std must be 0 or more"):
        make_task(IDS["S1"], start_std=-1.0)
    with pytest.raises(UserError, match="no setting name"):
        make_task(IDS["S1"], name="S2")
    with pytest.raises(UserError, match="no body named 'torso'"):
        make_vec(IDS["S1"], 1, disturbances=ExternalWrench("torso", (1.0, 0.0, 0.0)))
    with pytest.raises(UserError, match="has no body_mass"):
        make_vec(IDS["S1"], 1, disturbances="mass=0.5").reset()
