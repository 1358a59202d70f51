"""Every task against gymnasium's own environment, fed with the data that environment computed."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.envs.gym_mujoco.hopper import Hopper
from rlstab.envs.physics.interface import FloatArray
from rlstab.envs.task import Task
from rlstab.envs.tasks import TASKS

STEPS = 250
MAX_EPISODE = 70  # Shorter than the time limit, so that tasks which never terminate see resets too.

# Arguments that differ from every default; the episode goes on when unhealthy, so fallen states are judged as well.
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "InvertedPendulum-v5": [{"reset_noise_scale": 0.15}],
    "InvertedDoublePendulum-v5": [{"healthy_reward": 3.0, "reset_noise_scale": 0.3}],
    "Hopper-v5": [
        {
            "forward_reward_weight": 2.5,
            "ctrl_cost_weight": 0.3,
            "healthy_reward": 0.7,
            "terminate_when_unhealthy": False,
            "healthy_state_range": (-5.0, 4.0),
            "healthy_z_range": (0.9, 1.3),
            "healthy_angle_range": (-0.05, 0.1),
            "reset_noise_scale": 0.05,
            "exclude_current_positions_from_observation": False,
        },
        {"healthy_state_range": (-2.0, 2.0)},
    ],
    "Walker2d-v5": [
        {
            "forward_reward_weight": 2.5,
            "ctrl_cost_weight": 0.3,
            "healthy_reward": 0.7,
            "terminate_when_unhealthy": False,
            "healthy_z_range": (0.9, 1.3),
            "healthy_angle_range": (-0.05, 0.1),
            "reset_noise_scale": 0.05,
            "exclude_current_positions_from_observation": False,
        }
    ],
    "HalfCheetah-v5": [
        {
            "forward_reward_weight": 2.5,
            "ctrl_cost_weight": 0.3,
            "reset_noise_scale": 0.3,
            "exclude_current_positions_from_observation": False,
        }
    ],
    "Ant-v5": [
        {
            "forward_reward_weight": 2.5,
            "ctrl_cost_weight": 0.3,
            "contact_cost_weight": 0.01,
            "healthy_reward": 0.7,
            "main_body": "front_left_leg",
            "terminate_when_unhealthy": False,
            "healthy_z_range": (0.4, 0.8),
            "contact_force_range": (-2.0, 0.5),
            "reset_noise_scale": 0.05,
            "exclude_current_positions_from_observation": False,
        },
        {"include_cfrc_ext_in_observation": False, "main_body": 4},
    ],
    "Humanoid-v5": [
        {
            "forward_reward_weight": 2.5,
            "ctrl_cost_weight": 0.3,
            "contact_cost_weight": 1e-4,
            "contact_cost_range": (0.5, 3.0),
            "healthy_reward": 0.7,
            "terminate_when_unhealthy": False,
            "healthy_z_range": (1.2, 1.4),
            "reset_noise_scale": 0.05,
            "exclude_current_positions_from_observation": False,
            "include_cinert_in_observation": False,
            "include_cfrc_ext_in_observation": False,
        },
        {"include_cvel_in_observation": False, "include_qfrc_actuator_in_observation": False},
    ],
    "Swimmer-v5": [
        {
            "forward_reward_weight": 2.5,
            "ctrl_cost_weight": 0.3,
            "reset_noise_scale": 0.3,
            "exclude_current_positions_from_observation": False,
        }
    ],
    "Reacher-v5": [{"reward_dist_weight": 2.0, "reward_control_weight": 0.1}],
}
CASES = [
    pytest.param(id, arguments, id=f"{id}-{number}")
    for id in TASKS
    for number, arguments in enumerate([{}, *ARGUMENTS[id]])
]


@dataclass
class OneWorld:
    """Gymnasium's ``mjData`` as the state of a batch of one."""

    data: Any

    @property
    def qpos(self) -> FloatArray:
        return self.data.qpos[None]

    @property
    def qvel(self) -> FloatArray:
        return self.data.qvel[None]

    def field(self, name: str) -> FloatArray:
        return getattr(self.data, name)[None]


@dataclass
class Recorded:
    """A batch of states copied from ``mjData``."""

    arrays: dict[str, FloatArray]

    @property
    def qpos(self) -> FloatArray:
        return self.arrays["qpos"]

    @property
    def qvel(self) -> FloatArray:
        return self.arrays["qvel"]

    def field(self, name: str) -> FloatArray:
        return self.arrays[name]

    def __getitem__(self, worlds: slice) -> Recorded:
        return Recorded({name: array[worlds] for name, array in self.arrays.items()})


def make_pair(id: str, arguments: dict[str, Any]) -> tuple[Any, Task]:
    env = gymnasium.make(id, **arguments).unwrapped
    return env, TASKS[id](**arguments)


def random_action(env: Any, rng: np.random.Generator) -> FloatArray:
    """Actions over one and a half times the control range: clamping must not reach the control cost."""
    return rng.uniform(1.5 * env.action_space.low, 1.5 * env.action_space.high)


@pytest.mark.parametrize(("id", "arguments"), CASES)
def test_equals_gymnasium_through_falls_and_resets(id: str, arguments: dict[str, Any]) -> None:
    env, task = make_pair(id, arguments)
    rng = np.random.default_rng(7)
    state, ended, episode_steps, endings = OneWorld(env.data), True, 0, 0
    for step in range(STEPS):
        if ended:
            observation, _ = env.reset(seed=step)
            episode_steps = 0
            np.testing.assert_allclose(task.observe(state)[0], observation, rtol=1e-9, atol=1e-9)
        action = random_action(env, rng)
        before = task.measure(state)
        observation, reward, terminated, truncated, info = env.step(action)
        terms, terminated_here = task.outcome(before, state, action[None], env.dt)

        np.testing.assert_allclose(task.observe(state)[0], observation, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(np.sum(list(terms.values())), reward, rtol=1e-9, atol=1e-9)
        assert terms.keys() == {name for name in info if name.startswith("reward_") or name.endswith("_penalty")}
        for name, term in terms.items():
            assert term.shape == (1,)
            assert term.dtype == np.float64
            np.testing.assert_allclose(term[0], info[name], rtol=1e-9, atol=1e-9)
        assert terminated_here.shape == (1,)
        assert terminated_here.dtype == np.bool_
        assert terminated_here[0] == terminated
        assert not truncated
        episode_steps += 1
        ended = terminated or episode_steps == MAX_EPISODE
        endings += ended
    assert endings > 1


@pytest.mark.parametrize(("id", "arguments"), CASES)
def test_start_has_gymnasiums_distribution(id: str, arguments: dict[str, Any]) -> None:
    """Drawn from the same generator, the starts are the same numbers."""
    env, task = make_pair(id, arguments)
    for seed in range(5):
        env.reset(seed=seed)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        for _ in range(2):
            qpos, qvel = task.initial_state(env.model, rng)
            np.testing.assert_array_equal(qpos, env.data.qpos)
            np.testing.assert_array_equal(qvel, env.data.qvel)
            env.reset()


@pytest.mark.parametrize(("id", "arguments"), CASES)
def test_layout_describes_the_observation(id: str, arguments: dict[str, Any]) -> None:
    env, task = make_pair(id, arguments)
    layout = task.observation_terms(env.model)
    assert sum(term.dim for term in layout) == env.observation_space.shape[0]
    assert len({term.name for term in layout}) == len(layout)
    assert all(term.unit for term in layout)


@pytest.mark.parametrize("id", TASKS)
def test_a_world_does_not_depend_on_the_others(id: str) -> None:
    """Bit for bit: rows of a batch are what a batch of one gives."""
    env, task = make_pair(id, {})
    rng = np.random.default_rng(3)
    env.reset(seed=3)
    rows: dict[str, list[FloatArray]] = {name: [] for name in ("qpos", "qvel", *task.fields)}
    actions = []
    for _ in range(13):
        action = random_action(env, rng)
        env.step(action)
        actions.append(action)
        for name, copies in rows.items():
            copies.append(getattr(env.data, name).copy())
    batch, batch_actions = Recorded({name: np.array(copies) for name, copies in rows.items()}), np.array(actions)
    before = task.measure(batch)[::-1]
    observation = task.observe(batch)
    terms, terminated = task.outcome(before, batch, batch_actions, env.dt)
    for world in range(13):
        one = slice(world, world + 1)
        np.testing.assert_array_equal(task.observe(batch[one]), observation[one])
        np.testing.assert_array_equal(task.measure(batch[one])[0], task.measure(batch)[world])
        terms_one, terminated_one = task.outcome(before[one], batch[one], batch_actions[one], env.dt)
        np.testing.assert_array_equal(terminated_one, terminated[one])
        for name, term in terms.items():
            np.testing.assert_array_equal(terms_one[name], term[one])


@pytest.mark.parametrize("id", TASKS)
def test_results_are_copies(id: str) -> None:
    """Stepping on must change neither what was observed nor what was measured."""
    env, task = make_pair(id, {})
    state = OneWorld(env.data)
    env.reset(seed=1)
    results = [task.observe(state), task.measure(state)]
    copies = [result.copy() for result in results]
    env.step(env.action_space.high)
    for result, copy in zip(results, copies, strict=True):
        np.testing.assert_array_equal(result, copy)


@pytest.mark.parametrize("id", ["Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"])
@settings(max_examples=150)
@given(st.data())
def test_health_equals_gymnasiums_at_the_edges(id: str, data: st.DataObject) -> None:
    """Bounds that are reached exactly, infinities and NaN are judged as gymnasium judges them."""
    env, task = _PAIRS[id]
    env.reset(seed=0)
    # A few entries are replaced; the rest stays healthy.
    edges = [-100.0, -1.0, -0.2, 0.2, 0.7, 0.8, 1.0, 2.0, 100.0, np.inf, -np.inf, np.nan]
    vector = np.concatenate((env.data.qpos, env.data.qvel))
    for index in data.draw(st.lists(st.integers(0, 4) | st.integers(0, len(vector) - 1), max_size=2)):
        vector[index] = data.draw(st.sampled_from(edges) | st.floats(-3, 3))
    env.data.qpos[:], env.data.qvel[:] = vector[: env.model.nq], vector[env.model.nq :]
    state = OneWorld(env.data)
    with np.errstate(invalid="ignore"):  # The speed of something at infinity.
        terms, terminated = task.outcome(task.measure(state), state, np.zeros((1, env.model.nu)), env.dt)
    assert terminated[0] == (not env.is_healthy)
    assert terms["reward_survive"][0] == env.healthy_reward


_PAIRS = {id: make_pair(id, {}) for id in ("Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")}


def test_a_diverged_pendulum_has_ended() -> None:
    task = TASKS["InvertedPendulum-v5"]()
    for qpos, qvel in itertools.product(([0.0, 0.0], [np.nan, 0.0]), ([0.0, 0.0], [0.0, np.inf])):
        state = Recorded({"qpos": np.array([qpos]), "qvel": np.array([qvel])})
        terms, terminated = task.outcome(task.measure(state), state, np.zeros((1, 1)), 0.04)
        assert terminated[0] == (not np.isfinite(qpos + qvel).all())
        assert terms["reward_survive"][0] == (not terminated[0])


@pytest.mark.parametrize("id", TASKS)
def test_limits_and_periods_are_the_registered_ones(id: str) -> None:
    spec = gymnasium.spec(id)
    env, task = make_pair(id, {})
    assert task.id == id
    assert task.max_episode_steps == spec.max_episode_steps
    assert task.frame_skip == env.frame_skip
    assert env.model.opt.timestep * task.frame_skip == pytest.approx(env.dt, rel=1e-15)


@pytest.mark.parametrize("id", TASKS)
def test_defaults_and_names_are_gymnasiums(id: str) -> None:
    """Every constant of the task is an argument of gymnasium's constructor, with the same default."""
    env = gymnasium.make(id).unwrapped
    parameters = inspect.signature(type(env).__init__).parameters
    ours = {field.name: field.default for field in dataclasses.fields(TASKS[id])}
    assert ours == {name: parameters[name].default for name in ours}
    beyond = {"self", "kwargs", "frame_skip", "default_camera_config"}
    assert parameters.keys() - ours.keys() == beyond


def test_arguments_survive_json() -> None:
    """Ranges come back from JSON as lists."""
    arguments = json.loads(json.dumps({"healthy_z_range": (0.5, 2.0), "healthy_reward": 1}))
    assert Hopper(**arguments) == Hopper(healthy_z_range=(0.5, 2.0))
