from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlstab.analysis.episodes import (
    BLOCK,
    STEP_LIMIT,
    BlockPolicy,
    UncountedFailure,
    check_spaces,
    give_up_after,
    play,
    time_limit,
)
from rlstab.envs.registry import make_vec
from rlstab.errors import NonFiniteState, UserError


class Countdown(gymnasium.Env):
    """Ends after ``length`` steps; rewards what it is told; says at the end whether the last action was positive."""

    observation_space: Any = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space: Any = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, length: int, reward: float = 1.0, key: str = "is_success") -> None:
        self.length, self.reward, self.key, self.left = length, reward, key, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.length
        return np.array([float(self.left)]), {}

    def step(self, action):
        self.left -= 1
        info = {self.key: bool(action[0] > 0)} if self.key else {}
        return np.array([float(self.left)]), self.reward, self.left == 0, False, info


def vec(*envs: Countdown) -> SyncVectorEnv:
    return SyncVectorEnv([lambda env=env: env for env in envs], autoreset_mode=AutoresetMode.SAME_STEP)


class Constant:
    observation_space = Countdown.observation_space
    action_space = Countdown.action_space

    def __init__(self, value: float = 0.5) -> None:
        self.value = value

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((len(observation), 1), self.value, np.float32), state


class Counting(Constant):
    """Recurrent: its state counts the steps since the episode began; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def predict(self, observation, state=None, episode_start: Any = None, deterministic=False):
        before = np.zeros(len(observation)) if state is None else state
        count = np.where(episode_start, 0, before) + 1
        self.asked.append((observation.copy(), episode_start.copy(), count))
        return np.zeros((len(observation), 1), np.float32), count


def run(policy: Any, env: SyncVectorEnv, **changes: Any) -> Any:
    settings = {"first": 0, "seed": 0, "deterministic": True, "step_limit": 100, **changes}
    return play(policy, env, **settings)


def test_each_world_plays_one_episode_and_no_more() -> None:
    done = run(Constant(), vec(Countdown(2), Countdown(7), Countdown(3, reward=-2.0)))
    assert done.returns.tolist() == [2, 7, -6]
    assert done.lengths.tolist() == [2, 7, 3]
    assert done.terminated.all()


@pytest.mark.parametrize("key", ["is_success", "success"])
@pytest.mark.parametrize(("action", "expected"), [(0.5, 1.0), (-0.5, 0.0)])
def test_success_is_that_of_the_last_step(key: str, action: float, expected: float) -> None:
    done = run(Constant(action), vec(Countdown(2, key=key), Countdown(4, key=key)))
    assert done.success.tolist() == [expected, expected]


def test_success_is_unknown_where_it_is_not_told() -> None:
    assert np.isnan(run(Constant(), vec(Countdown(2, key=""), Countdown(1, key=""))).success).all()


def test_recurrent_state_is_kept_within_an_episode_and_cleared_between() -> None:
    policy = Counting()
    run(policy, vec(Countdown(2), Countdown(5)))
    counts = np.array([count for _, _, count in policy.asked])
    assert counts[:, 0].tolist() == [1, 2, 1, 2, 1]
    assert counts[:, 1].tolist() == [1, 2, 3, 4, 5]


def test_an_episode_always_has_the_same_place_in_a_block() -> None:
    class Identity(Constant):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            assert len(observation) == BLOCK
            return observation + np.arange(BLOCK)[:, None] / 100, state

    for first, count in ((0, 3), (5, 1), (14, 4), (30, 40)):
        observations = np.arange(first, first + count, dtype=float)[:, None]
        actor = BlockPolicy(Identity(), first, count, seed=0, deterministic=True)
        actions = actor.act(observations, np.ones(count, np.bool_))
        places = np.arange(first, first + count) % BLOCK
        np.testing.assert_allclose(actions[:, 0], observations[:, 0] + places / 100)


def test_dictionaries_of_observations_are_passed_in_blocks() -> None:
    class Sum(Constant):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return observation["a"] + observation["b"], state

    actor = BlockPolicy(Sum(), 3, 2, seed=0, deterministic=True)
    observations = {"a": np.array([[1.0], [2.0]]), "b": np.array([[10.0], [20.0]])}
    assert actor.act(observations, np.ones(2, np.bool_)).tolist() == [[11], [22]]


def test_an_action_that_is_not_finite_is_named() -> None:
    with pytest.raises(UserError, match=r"policy chose .* episode 4 at step 1"):
        run(Constant(np.nan), vec(Countdown(3)), first=4)


def test_a_reward_that_is_not_finite_is_named_and_counts_only_while_the_episode_runs() -> None:
    with pytest.raises(UserError, match=r"reward .* episode 1 at step 1"):
        run(Constant(), vec(Countdown(3), Countdown(3, reward=np.inf)))


class Guarded:
    """Worlds that raise as ours do, naming ``worlds``, at the third step."""

    def __init__(self, env: SyncVectorEnv, worlds: list[int]) -> None:
        self.env, self.worlds, self.steps = env, worlds, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def step(self, actions: Any) -> Any:
        self.steps += 1
        if self.steps == 3:
            raise NonFiniteState("NaN", step=3, worlds=self.worlds, arrays={"reward": np.array([np.nan])})
        return self.env.step(actions)


def test_nan_in_a_world_that_has_ended_is_told_from_one_that_counts() -> None:
    # World 0 has ended: where both fail, only world 1 is to blame.
    for worlds, kind, blamed in (
        ([0], UncountedFailure, [0]),
        ([1], NonFiniteState, [1]),
        ([0, 1], NonFiniteState, [1]),
    ):
        with pytest.raises(NonFiniteState) as caught:
            run(Constant(), Guarded(vec(Countdown(2), Countdown(9)), worlds))
        assert type(caught.value) is kind
        assert (caught.value.step, caught.value.worlds) == (3, blamed)
        assert "reward" in caught.value.arrays


def test_discrete_and_dictionary_spaces_are_compared() -> None:
    class Fake:
        observation_space = gymnasium.spaces.Dict({"x": gymnasium.spaces.Box(0, 1, (2,))})
        action_space = gymnasium.spaces.Discrete(3)

        def predict(self, *args, **kwargs):
            raise NotImplementedError

    class World:
        single_observation_space = gymnasium.spaces.Dict({"x": gymnasium.spaces.Box(0, 1, (2,))})
        single_action_space = gymnasium.spaces.Discrete(3)

    check_spaces(Fake(), World())  # type: ignore[arg-type]
    World.single_action_space = gymnasium.spaces.Discrete(4)
    with pytest.raises(UserError, match=r"Discrete\(3\).*Discrete\(4\)"):
        check_spaces(Fake(), World())  # type: ignore[arg-type]


def test_images_may_have_their_channels_first() -> None:
    class Fake(Constant):
        observation_space = gymnasium.spaces.Box(0, 255, (3, 8, 9), np.uint8)

    class World:
        single_observation_space = gymnasium.spaces.Box(0, 255, (8, 9, 3), np.uint8)
        single_action_space = Countdown.action_space

    check_spaces(Fake(), World())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("registered", "asked", "limit"),
    [
        (None, None, STEP_LIMIT),
        (1000, 5, STEP_LIMIT),
        (1000, -1, STEP_LIMIT),
        (None, 3 * STEP_LIMIT, 3 * STEP_LIMIT),
        (2 * STEP_LIMIT, None, 2 * STEP_LIMIT),
    ],
)
def test_an_episode_is_not_given_up_before_its_time_limit(
    registered: int | None, asked: int | None, limit: int
) -> None:
    env: Any = vec(Countdown(1))
    env.spec = EnvSpec("Countdown-v0", max_episode_steps=registered)
    assert give_up_after(time_limit(env, "Countdown-v0", asked)) == limit


@pytest.mark.parametrize(
    ("env_id", "asked", "limit"),
    [
        ("Hopper-v5", None, 1000),
        ("rlstab/Hopper-v5", 7, 7),
        ("Hopper-v5", -1, None),
        ("CartPole-v1", None, 500),
        ("CartPole", None, 500),
        ("CartPole-v1", 3, 3),
        ("CartPole-v1", -1, None),
        (lambda: Countdown(3), None, None),
    ],
)
def test_the_time_limit_is_the_one_asked_for_or_the_environments(env_id: Any, asked: int | None, limit: Any) -> None:
    env = make_vec(env_id, max_episode_steps=asked)
    assert time_limit(env, env_id, asked) == limit
    env.close()


def test_patience_ends_only_where_no_episode_has_ended() -> None:
    with pytest.raises(UserError, match=r"no episode ended within 5 steps.*--max-episode-steps"):
        run(Constant(), vec(Countdown(9), Countdown(8)), patience=5)
    assert run(Constant(), vec(Countdown(9), Countdown(5)), patience=5).lengths.tolist() == [9, 5]
