"""Episode bookkeeping of the batched memory tasks, and how they are made."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasiums_check
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.envs.check import check_env
from rlstab.envs.memory import TASKS, make_task
from rlstab.envs.memory.batch import MemoryVec
from rlstab.envs.memory.single import MemoryEnv
from rlstab.envs.registry import make_vec, own_ids, runs_natively
from rlstab.errors import UserError

SHORT: list[tuple[str, dict[str, Any]]] = [
    ("rlstab/PassiveTMaze-v0", {"length": 4}),
    ("rlstab/RepeatPreviousEasy-v0", {}),
    ("rlstab/RepeatFirstEasy-v0", {}),
]


def make(env_id: str, num_envs: int, seed: int = 0, **more: Any) -> Any:
    return make_vec(env_id, num_envs, seed, env_kwargs=dict(SHORT)[env_id], **more)


def run(env: Any, actions: np.ndarray) -> list[np.ndarray]:
    """Observations, rewards, terminations, truncations of every step."""
    return [np.array(part) for part in zip(*(env.step(action)[:4] for action in actions), strict=True)]


def some_actions(steps: int, num_envs: int, seed: int = 0) -> np.ndarray:
    # Mostly to the right, or the maze's end is never seen.
    return np.random.default_rng(seed).choice([0, 0, 0, 1, 2, 3], (steps, num_envs))


def assert_same(mine: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([env_id for env_id, _ in SHORT]),
    st.integers(1, 9),
    st.integers(0, 2**40),
    st.integers(0, 200),
    st.data(),
)
def test_a_world_is_the_same_alone_and_in_a_crowd(
    env_id: str, num_envs: int, seed: int, offset: int, data: st.DataObject
) -> None:
    world = data.draw(st.integers(0, num_envs - 1))
    crowd = make(env_id, num_envs, seed, world_offset=offset)
    alone = make(env_id, 1, seed, world_offset=offset + world)
    actions = some_actions(120, num_envs)
    np.testing.assert_array_equal(alone.reset()[0][0], crowd.reset()[0][world])
    parts = run(crowd, actions)
    assert parts[2][:, world].sum() >= 2, "episodes must end for the test to cover resets"
    assert_same(run(alone, actions[:, [world]]), [part[:, [world]] for part in parts])


@pytest.mark.parametrize(("env_id", "kwargs"), SHORT)
def test_the_seed_decides_everything(env_id: str, kwargs: dict[str, Any]) -> None:
    env = make(env_id, 5)
    actions = some_actions(110, 5)
    results = []
    for seed in (1, 1, 2):
        start = env.reset(seed=seed)[0]
        results.append([start, *run(env, actions)])
    assert_same(results[0], results[1])
    assert not all(np.array_equal(one, other) for one, other in zip(results[0], results[2], strict=True))
    other_way = MemoryVec(make_task(env_id, **kwargs), 5, seed=2)
    assert_same([other_way.reset()[0], *run(other_way, actions)], results[2])
    assert_same([env.reset(seed=1)[0], *run(env, actions)], results[0])


@pytest.mark.parametrize("env_id", dict(SHORT))
def test_ended_worlds_start_again_in_the_same_step(env_id: str) -> None:
    env = make(env_id, 4)
    horizon = env.task.horizon
    env.reset()
    for step, action in enumerate(some_actions(3 * horizon, 4)):
        observation, _, terminated, truncated, infos = env.step(action)
        over = (step + 1) % horizon == 0
        assert bool(infos) == over
        np.testing.assert_array_equal(terminated, np.full(4, over))
        assert not truncated.any()
        if over:
            assert infos["_final_obs"].all()
            assert infos["final_obs"].shape == observation.shape
            assert (env.elapsed_steps == 0).all()
            if env_id == "rlstab/PassiveTMaze-v0":
                np.testing.assert_array_equal(np.abs(observation), [[0, 1]] * 4)


@pytest.mark.parametrize("env_id", dict(SHORT))
@pytest.mark.parametrize("at", [0, 3, 57])
def test_a_saved_environment_continues_bit_for_bit(env_id: str, at: int) -> None:
    env = make(env_id, 3, seed=7)
    env.reset()
    actions = some_actions(200, 3)
    if at:
        run(env, actions[:at])
    state = env.state_dict()
    copies = {name: np.array(value) for name, value in state.items()}
    expected = run(env, actions[at:])
    for name, value in copies.items():
        np.testing.assert_array_equal(state[name], value, err_msg=f"{name} of a saved state changed later")
    assert env.resumes_exactly
    other = make(env_id, 3, seed=1)
    other.load_state_dict(state)
    assert_same(run(other, actions[at:]), expected)
    assert other.total_steps == env.total_steps
    assert_same(list(other.reset()[:1]), list(env.reset()[:1]))
    env.load_state_dict(state)
    assert_same(run(env, actions[at:]), expected)


def test_the_state_of_another_environment_is_refused_and_changes_nothing() -> None:
    saved = make("rlstab/PassiveTMaze-v0", 2)
    saved.reset()
    saved.step(np.zeros(2, int))
    for env, words in (
        (make_vec("rlstab/PassiveTMaze-v0", 2), r"task: PassiveTMaze\(length=4\); this one's: PassiveTMaze\(length=50"),
        (make("rlstab/RepeatFirstEasy-v0", 2), "task: PassiveTMaze.*; this one's: RepeatFirst"),
        (make("rlstab/PassiveTMaze-v0", 3), "number of worlds: 2; this one's: 3"),
    ):
        with pytest.raises(UserError, match=words):
            env.load_state_dict(saved.state_dict())  # type: ignore[attr-defined]
        assert env.total_steps == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("env_id", dict(SHORT))
def test_a_partial_reset_keeps_the_others_going(env_id: str) -> None:
    env = make(env_id, 3)
    env.reset()
    before = run(env, some_actions(3, 3))[0][-1]
    again, _ = env.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(again[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(env.elapsed_steps, [3, 0, 3])
    undisturbed = make(env_id, 3)
    undisturbed.reset()
    run(undisturbed, some_actions(3, 3))
    actions = some_actions(60, 3, seed=1)
    mine, theirs = run(env, actions), run(undisturbed, actions)
    assert_same([part[:, [0, 2]] for part in mine], [part[:, [0, 2]] for part in theirs])
    # Worlds are at different steps now, and end at different times.
    assert (mine[2].sum(axis=1) == 1).any()
    again, _ = env.reset(options={"worlds": [0]})
    assert env.elapsed_steps[0] == 0


def test_a_time_limit_truncates_and_the_end_of_the_task_terminates() -> None:
    env = make("rlstab/PassiveTMaze-v0", 2, max_episode_steps=3)
    env.reset()
    _, _, terminated, truncated = run(env, some_actions(7, 2))
    assert not terminated.any()
    np.testing.assert_array_equal(np.flatnonzero(truncated[:, 0]), [2, 5])
    unlimited = make("rlstab/PassiveTMaze-v0", 2, max_episode_steps=-1)
    unlimited.reset()
    _, _, terminated, truncated = run(unlimited, some_actions(11, 2))
    assert not truncated.any()
    np.testing.assert_array_equal(np.flatnonzero(terminated[:, 0]), [4, 9])


def test_what_is_returned_is_not_written_to_later() -> None:
    env = make("rlstab/RepeatPreviousEasy-v0", 3)
    kept = [env.reset()[0]]
    copies = [kept[0].copy()]
    for action in some_actions(60, 3):
        *parts, infos = env.step(action)
        kept += [*parts, *infos.values(), env.elapsed_steps]
        copies += [part.copy() for part in kept[len(copies) :]]
    assert_same(kept, copies)


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        (np.zeros(3, int), r"whole numbers of shape \(2,\), got int64 of shape \(3,\)"),
        (np.zeros((2, 1), int), "of shape"),
        (np.zeros(2), "got float64"),
        (np.array([0, 4]), r"from 0 to 3, got \[0, 4\]"),
        (np.array([-1, 0]), r"from 0 to 3, got \[-1, 0\]"),
    ],
)
def test_actions_that_are_none_are_refused(actions: np.ndarray, words: str) -> None:
    env = make("rlstab/PassiveTMaze-v0", 2)
    env.reset()
    with pytest.raises(UserError, match=words):
        env.step(actions)


def test_misuse_is_told_in_one_line() -> None:
    env = make("rlstab/PassiveTMaze-v0", 2)
    cases = [
        (lambda: env.step(np.zeros(2, int)), "reset the environment before its first step"),
        (lambda: env.reset(seed=[1, 2]), "one integer"),
        (lambda: env.reset(options={"foo": 1}), "'worlds' or 'reset_mask', not foo"),
        (lambda: env.reset(seed=1, options={"worlds": [0]}), "leave out the choice of worlds"),
        (lambda: env.frame(), "no picture"),
        (lambda: make_vec("rlstab/PassiveTMaze-v0", 0), "num_envs must be at least 1"),
        (lambda: make_vec("rlstab/PassiveTMaze-v0", max_episode_steps=0), "max_episode_steps must be at least 1"),
        (lambda: make_vec("rlstab/PassiveTMaze-v0", disturbances="latency=1"), "physics of a robot"),
        (lambda: make_vec("rlstab/PassiveTMaze-v0", env_kwargs={"lenght": 3}), "did you mean 'length'. It has length"),
        (lambda: make_vec("PassiveTMaze-v0"), "did you mean 'rlstab/PassiveTMaze-v0'"),
        (lambda: make_task("rlstab/PassiveMaze-v0"), "did you mean 'rlstab/PassiveTMaze-v0'"),
        (lambda: MemoryEnv("rlstab/PassiveTMaze-v0", "human"), "nothing to draw"),
    ]
    for call, words in cases:
        with pytest.raises(UserError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("env_id", TASKS)
def test_every_id_is_made_by_gymnasium_and_by_make_vec(env_id: str) -> None:
    assert env_id in own_ids()
    assert runs_natively(env_id)
    assert not runs_natively(env_id, backend="gymnasium")
    single: Any = gymnasium.make(env_id)
    batch: Any = gymnasium.make_vec(env_id, num_envs=2, seed=5)
    ours: Any = make_vec(env_id.removesuffix("-v0"), 2, seed=5, backend="native")
    assert isinstance(batch, MemoryVec)
    assert batch.task == ours.task == single.unwrapped.batch.task
    first = ours.reset()[0]
    np.testing.assert_array_equal(first, batch.reset()[0])
    np.testing.assert_array_equal(first[0], single.reset(seed=5)[0])
    assert ours.observation_space.contains(first)
    assert first.dtype == np.float32
    for _ in range(ours.task.horizon):
        action = ours.action_space.sample()
        observation, reward, terminated, truncated, infos = ours.step(action)
        alone = single.step(action[0])
        final = infos["final_obs"][0] if infos else observation[0]
        np.testing.assert_array_equal(alone[0], final)
        assert alone[1:4] == (reward[0], terminated[0], truncated[0])
        assert ours.observation_space.contains(observation)
    assert alone[2]
    with pytest.raises(UserError, match="is over: reset it"):
        single.step(0)


@pytest.mark.parametrize("env_id", TASKS)
def test_checkers_are_content(env_id: str) -> None:
    assert check_env(env_id, steps=80) == []


@pytest.mark.filterwarnings("ignore:.*not within the observation.*")
def test_gymnasiums_own_checker_is_content() -> None:
    gymnasiums_check(MemoryEnv("rlstab/PassiveTMaze-v0", length=5), skip_render_check=True)


def test_settings_and_limits_pass_through_gymnasium() -> None:
    env: Any = gymnasium.make("rlstab/PassiveTMaze-v0", length=3)
    assert env.unwrapped.batch.task.horizon == 4
    batch: Any = gymnasium.make_vec("rlstab/PassiveTMaze-v0", num_envs=2, length=3, max_episode_steps=2)
    batch.reset()
    assert run(batch, some_actions(2, 2))[3][-1].all()
    copies: Any = make_vec("rlstab/PassiveTMaze-v0", 2, backend="gymnasium", env_kwargs={"length": 3})
    copies.reset()
    assert run(copies, some_actions(4, 2))[2][-1].all()


def test_without_a_seed_single_worlds_differ() -> None:
    decks = {MemoryEnv("rlstab/RepeatFirstEasy-v0") for _ in range(6)}
    for env in decks:
        env.reset()
    assert len({env.batch.state_dict()["hidden"].tobytes() for env in decks}) == 6


def test_it_is_an_sb3_environment_too() -> None:
    vec = make("rlstab/PassiveTMaze-v0", 2).to_sb3()
    vec.reset()
    for _ in range(5):
        observation, _, done, infos = vec.step(np.zeros(2, np.int64))
    assert done.all()
    assert [info["episode"]["l"] for info in infos] == [5, 5]
    assert not infos[0]["TimeLimit.truncated"]
    np.testing.assert_array_equal(infos[0]["terminal_observation"], [1, 0])
    np.testing.assert_array_equal(np.abs(observation), [[0, 1]] * 2)
