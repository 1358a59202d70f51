"""The maze against a plain one written after its rules, and the returns that are known for it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.envs.registry import make_vec
from rlstab.errors import UserError

RIGHT, UP, LEFT, DOWN = range(4)


class PlainMaze:
    """One maze as a set of free cells."""

    def __init__(self, length: int, cue: int) -> None:
        self.length, self.cue = length, cue
        self.free = {(x, 0) for x in range(length + 1)} | {(length, 1), (length, -1)}
        self.cell, self.time = (0, 0), 0

    def observation(self) -> list[float]:
        x, y = self.cell
        if x == self.length:
            return [1, y]
        return [0, self.cue if self.time == 0 else 0]

    def step(self, action: int) -> tuple[list[float], float, bool]:
        dx, dy = {RIGHT: (1, 0), UP: (0, 1), LEFT: (-1, 0), DOWN: (0, -1)}[action]
        wanted = (self.cell[0] + dx, self.cell[1] + dy)
        self.cell = wanted if wanted in self.free else self.cell
        self.time += 1
        if self.time == self.length + 1:
            return self.observation(), float(self.cell[1] == self.cue), True
        return self.observation(), -1 / self.length if self.cell[0] < self.time else 0.0, False


def maze(num_envs: int, length: int, seed: int = 0) -> Any:
    return make_vec("rlstab/PassiveTMaze-v0", num_envs, seed, env_kwargs={"length": length})


def play(env: Any, policy: Any, episodes: int = 1) -> np.ndarray:
    """Returns ``(episodes, num_envs)`` of a policy that is called with the observation and the step in the episode."""
    observation, _ = env.reset()
    returns = np.zeros((episodes, env.num_envs))
    for episode in range(episodes):
        for step in range(env.task.horizon):
            observation, reward, terminated, truncated, _ = env.step(policy(observation, step))
            returns[episode] += reward
            assert terminated.all() == terminated.any() == (step == env.task.horizon - 1)
            assert not truncated.any()
    return returns


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.lists(st.sampled_from([RIGHT, RIGHT, RIGHT, UP, LEFT, DOWN]), min_size=30, max_size=30))
def test_it_moves_shows_and_rewards_as_the_plain_maze_does(length: int, actions: list[int]) -> None:
    env = maze(2, length, seed=3)
    observation, _ = env.reset()
    plain = [PlainMaze(length, int(row[1])) for row in observation]
    for action, reverse in zip(actions, reversed(actions), strict=True):
        observation, reward, terminated, _, infos = env.step(np.array([action, reverse]))
        for world, move in enumerate((action, reverse)):
            expected, expected_reward, over = plain[world].step(move)
            seen = infos["final_obs"][world] if over else observation[world]
            np.testing.assert_array_equal(seen, expected)
            assert reward[world] == expected_reward
            assert terminated[world] == over
            if over:
                plain[world] = PlainMaze(length, int(observation[world, 1]))


@pytest.mark.parametrize("length", [1, 2, 7, 50, 300])
def test_who_remembers_the_cue_gets_1_and_who_remembers_wrongly_0(length: int) -> None:
    env = maze(8, length)
    cue = np.zeros(8)

    def remember(observation: np.ndarray, step: int) -> np.ndarray:
        if step == 0:
            cue[:] = observation[:, 1]
        return np.where(cue > 0, UP, DOWN) if step == length else np.full(8, RIGHT)

    np.testing.assert_array_equal(play(env, remember, 3), 1.0)
    np.testing.assert_array_equal(
        play(env, lambda seen, step: remember(seen, step) ^ (2 if step == length else 0), 3), 0.0
    )


def test_the_lowest_return_is_minus_1() -> None:
    returns = play(maze(4, 20), lambda *_: np.full(4, LEFT))
    np.testing.assert_allclose(returns, -1.0, rtol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_no_policy_without_memory_is_expected_to_get_more_than_half(length: int) -> None:
    """All of them: an action for each of the six observations there are, both cues being equally likely."""
    kinds = [(0, -1), (0, 1), (0, 0), (1, -1), (1, 0), (1, 1)]
    best = -np.inf
    for table in itertools.product(range(4), repeat=len(kinds)):
        action = dict(zip(kinds, table, strict=True))
        total = 0.0
        for cue in (-1, 1):
            plain, over = PlainMaze(length, cue), False
            while not over:
                _, reward, over = plain.step(action[tuple(int(entry) for entry in plain.observation())])
                total += reward
        best = max(best, total / 2)
    assert best == 0.5


def test_cues_are_equally_likely_and_not_alike_in_all_worlds() -> None:
    env = maze(64, 1)
    cues = [env.reset()[0][:, 1].copy() for _ in range(40)]
    assert set(np.unique(cues)) == {-1, 1}
    assert abs(np.mean(cues)) < 4 / np.sqrt(64 * 40)
    assert 0 < (cues[0] > 0).sum() < 64
    returns = play(env, lambda seen, _: np.where(seen[:, 0] == 1, UP, RIGHT), 50)
    assert abs(returns.mean() - 0.5) < 4 * 0.5 / np.sqrt(returns.size)


def test_the_length_is_50_unless_another_is_asked_for_and_must_make_sense() -> None:
    env: Any = make_vec("rlstab/PassiveTMaze-v0")
    assert env.task.horizon == 51
    assert env.single_observation_space.shape == (2,)
    assert env.single_action_space.n == 4
    for length in (0, -3, 2.5, True, "10"):
        with pytest.raises(UserError, match="PassiveTMaze: length must be a whole number of 1 or more, got "):
            make_vec("rlstab/PassiveTMaze-v0", env_kwargs={"length": length})
