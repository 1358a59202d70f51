from __future__ import annotations

import os
import signal
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rlstab.envs.gym_vector import gymnasium_vec
from rlstab.envs.registry import make_vec
from rlstab.errors import NonFiniteState, UserError


class Counter(gymnasium.Env):
    """Counts its steps into one array that it returns again and again; ends after ``length``."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, length: int = 3, nan_at: int = -1, bad: str = "observation") -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.length, self.nan_at, self.bad = length, nan_at, bad
        self.buffer = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        self.buffer[:] = 0, self.np_random.integers(1000)
        return self.buffer, {"begun": True}

    def step(self, action: Any) -> Any:
        self.count += 1
        self.buffer[0] = self.count
        reward = 1.0
        if self.count == self.nan_at:
            if self.bad == "reward":
                reward = float("inf")
            else:
                self.buffer[1] = np.nan
        return self.buffer, reward, self.count >= self.length, False, {"count": self.count}


class Nested(gymnasium.Env):
    """Observations and actions that are trees."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {"image": spaces.Box(0, 255, (4, 4, 3), np.uint8), "where": spaces.Tuple((spaces.Discrete(5),))}
        )
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return self.look(), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        return self.look(), 0.0, False, self.count >= 2, {}

    def look(self) -> dict[str, Any]:
        return {"image": np.full((4, 4, 3), self.count, np.uint8), "where": (self.count,)}


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_last_observation_is_dense_and_survives_the_reset(mode):
    env = gymnasium_vec(Counter, 3, mode=mode)
    env.reset(seed=0)
    for _ in range(2):
        *_, infos = env.step(np.zeros(3, np.int64))
        assert "final_obs" not in infos
    observation, reward, terminated, truncated, infos = env.step(np.zeros(3, np.int64))
    assert terminated.all()
    assert not truncated.any()
    assert infos["final_obs"].shape == (3, 2)
    assert infos["final_obs"].dtype == np.float32
    # The environment has written its next first observation into the same array since.
    np.testing.assert_array_equal(infos["final_obs"][:, 0], 3.0)
    np.testing.assert_array_equal(observation[:, 0], 0.0)
    np.testing.assert_array_equal(infos["final_info"]["count"], 3)
    np.testing.assert_array_equal(reward, 1.0)
    env.close()


def test_only_rows_of_ended_worlds_are_marked():
    env = gymnasium_vec(Counter, 2)
    env.reset(seed=0)
    env.step(np.zeros(2, np.int64))
    env.reset(options={"worlds": np.array([False, True])})
    env.step(np.zeros(2, np.int64))
    _, _, terminated, _, infos = env.step(np.zeros(2, np.int64))
    assert terminated.tolist() == infos["_final_obs"].tolist() == [True, False]
    assert infos["final_obs"][0, 0] == 3.0


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_trees_of_observations_keep_their_shape(mode):
    env = gymnasium_vec(Nested, 2, mode=mode)
    env.reset(seed=0)
    env.step(np.zeros((2, 1), np.float32))
    observation, _, _, truncated, infos = env.step(np.zeros((2, 1), np.float32))
    assert truncated.all()
    np.testing.assert_array_equal(infos["final_obs"]["image"], np.full((2, 4, 4, 3), 2))
    np.testing.assert_array_equal(infos["final_obs"]["where"][0], [2, 2])
    np.testing.assert_array_equal(observation["image"], 0)
    env.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_world_depends_on_seed_and_index_alone(mode):
    many = gymnasium_vec("CartPole-v1", 4, seed=7, mode=mode)
    one = gymnasium_vec("CartPole-v1", 1, seed=7, world_offset=2)
    other = gymnasium_vec("CartPole-v1", 4, seed=8)
    first = many.reset()[0]
    np.testing.assert_array_equal(first[2:3], one.reset()[0])
    # Seeds that are counted up from a base would make world 1 of seed 7 and world 0 of seed 8 the same.
    assert not np.isin(first, other.reset()[0]).any()
    for _ in range(60):
        together = many.step(np.ones(4, np.int64))[0]
        alone = one.step(np.ones(1, np.int64))[0]
        np.testing.assert_array_equal(together[2:3], alone)
    many.close()


def test_a_reset_with_a_seed_starts_over_and_one_without_goes_on():
    env = gymnasium_vec("CartPole-v1", 2, seed=1)
    first, second = env.reset()[0], env.reset()[0]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(env.reset(seed=1)[0], first)
    np.testing.assert_array_equal(env.reset()[0], second)


def test_some_worlds_can_be_reset_alone():
    env = gymnasium_vec(Counter, 3)
    env.reset(seed=0)
    env.step(np.zeros(3, np.int64))
    assert env.reset(options={"worlds": [1]})[0][:, 0].tolist() == [1.0, 0.0, 1.0]
    assert env.elapsed_steps.tolist() == [1, 0, 1]


def test_gymnasiums_reset_mask_is_understood_and_other_options_reach_the_worlds():
    env = gymnasium_vec("CartPole-v1", 2)
    env.reset(seed=0)
    before = env.step(np.zeros(2, np.int64))[0]
    options = {"reset_mask": np.array([False, True]), "low": -1e-9, "high": 1e-9}
    observation, _ = env.reset(options=options)
    np.testing.assert_array_equal(observation[0], before[0])
    assert np.abs(observation[1]).max() < 1e-8
    assert env.elapsed_steps.tolist() == [1, 0]


@pytest.mark.parametrize("bad", ["observation", "reward"])
@pytest.mark.parametrize("length", [9, 2])
def test_nan_stops_naming_environment_world_and_step(bad, length):
    makers = iter([{"nan_at": -1}, {"nan_at": 2, "bad": bad}])
    env = gymnasium_vec(lambda: Counter(length, **next(makers)), 2)
    env.reset(seed=0)
    env.step(np.zeros(2, np.int64))
    with pytest.raises(NonFiniteState, match="in world 1, at step 2 of its episode; this looks into it") as caught:
        env.step(np.zeros(2, np.int64))
    assert caught.value.worlds == [1]
    assert caught.value.step == 2
    assert "action" in caught.value.arrays


def test_infinite_bounds_are_no_infinite_values():
    env = gymnasium_vec("Hopper-v5", 2)
    env.reset(seed=0)
    env.step(env.action_space.sample())


def test_the_time_limit_can_be_changed():
    env = gymnasium_vec("CartPole-v1", 1, max_episode_steps=2)
    env.reset(seed=0)
    env.step(np.zeros(1, np.int64))
    assert env.step(np.zeros(1, np.int64))[3].all()
    own = gymnasium_vec(Counter, 1, max_episode_steps=2)
    own.reset()
    own.step(np.zeros(1, np.int64))
    assert own.step(np.zeros(1, np.int64))[3].all()


def test_settings_reach_the_constructor():
    env = make_vec(Counter, 2, env_kwargs={"length": 5})
    env.reset()
    assert env.unwrapped.get_attr("length") == (5, 5)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_vec("CartPole-v1", 2, env_kwargs={"gravitty": 1}), "gravitty"),
        (lambda: make_vec(lambda: "no environment"), "not a gymnasium.Env"),  # type: ignore[arg-type]
        (lambda: gymnasium_vec("CartPole-v1", 0), "at least 1"),
        (lambda: gymnasium_vec("CartPole-v1", mode="threads"), "'sync' or 'async'"),  # type: ignore[arg-type]
        (lambda: gymnasium_vec("CartPole-v1").frame(), "render_mode"),
        (lambda: gymnasium_vec("CartPole-v1").reset(seed=[1]), "one integer"),
        (lambda: gymnasium_vec(Counter, 2).reset(options={"worlds": [2]}), "there are worlds 0 to 1"),
        (lambda: gymnasium_vec(Counter, 2).reset(options={"worlds": []}), "no world at all"),
        (lambda: gymnasium_vec(Counter, 2).reset(options={"reset_mask": np.ones(1, bool)}), r"shape \(1,\)"),
    ],
)
def test_other_mistakes_are_told_in_one_line(call, words):
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_after_an_interruption_new_episodes_come():
    env = gymnasium_vec("CartPole-v1", 2, seed=1)
    seen = [env.reset()[0]]
    for _ in range(5):
        env.step(np.zeros(2, np.int64))
    state = env.state_dict()
    again = gymnasium_vec("CartPole-v1", 2, seed=99)
    again.load_state_dict(state)
    assert again.total_steps == 5
    seen.append(again.reset()[0])
    later = gymnasium_vec("CartPole-v1", 2, seed=99)
    later.load_state_dict(again.state_dict())
    seen.append(later.reset()[0])
    assert len(np.unique(np.concatenate(seen)[:, 0])) == 6


def test_worker_processes_leave_ctrl_c_to_the_parent():
    before = signal.getsignal(signal.SIGINT)
    env = make_vec("CartPole-v1", 2, worker_processes=True)
    try:
        assert signal.getsignal(signal.SIGINT) is before
        env.reset()
        assert env.step(np.zeros(2, np.int64))[1].tolist() == [1.0, 1.0]
    finally:
        env.close()


class Fatal(Counter):
    """Its process is killed when an episode ends."""

    def step(self, action: Any) -> Any:
        values = super().step(action)
        if values[2]:
            os.kill(os.getpid(), signal.SIGKILL)
        return values


@pytest.mark.parametrize("call", ["step", "reset"])
def test_a_worker_process_that_died_is_told_in_one_line(call):
    env: Any = make_vec(Fatal, 2, worker_processes=True, env_kwargs={"length": 2})
    env.reset(seed=0)
    env.step(np.zeros(2, np.int64))
    if call == "reset":
        for process in env.env.processes:
            process.kill()
            process.join()
    with pytest.raises(UserError, match="a worker process of Fatal died") as caught:
        env.step(np.zeros(2, np.int64)) if call == "step" else env.reset()
    assert "\n" not in str(caught.value)
    assert not any(process.is_alive() for process in env.env.processes)
    env.close()
