from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from rlstab.analysis.evaluation import evaluate
from rlstab.analysis.robustness.gradient_attacks import CriticAttack, MaximalActionDifference
from rlstab.analysis.robustness.observation_attacks import (
    AttackedPolicy,
    AttackState,
    ObservationAttack,
    RandomUniform,
    RandomVertex,
    scales_of,
)
from rlstab.errors import UserError
from rlstab.policies.actor_critic import ActorCriticPolicy, NetworkConfig
from rlstab.policies.transformer.policy import TransformerPolicy

OBSERVED = spaces.Box(-np.inf, np.inf, (3,), np.float64)
ACTS = spaces.Box(-1.0, 1.0, (2,), np.float32)
ATTACKS = [RandomUniform, RandomVertex, MaximalActionDifference, CriticAttack]


class Recorder:
    """Remembers what it was shown, and counts its steps in each row."""

    observation_space = OBSERVED
    action_space = ACTS

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> Any:
        self.seen.append(observation)
        count = 1 if np.ndim(observation) == 1 else len(observation)
        steps = np.zeros(count) if state is None else np.where(episode_start, 0, state)
        actions = np.zeros((count, 2), np.float32)
        return (actions if np.ndim(observation) == 2 else actions[0]), steps + 1


def network(**changes: Any) -> ActorCriticPolicy:
    policy = ActorCriticPolicy(OBSERVED, ACTS, NetworkConfig(hidden_sizes=(8,), **changes), seed=3)
    if policy.module.normalizer is not None:
        import torch

        policy.module.normalizer.update(torch.tensor([[0.0, -2.0, 5.0], [1.0, 2.0, 5.5], [2.0, 7.0, 9.0]]))
    return policy


@pytest.mark.parametrize("kind", ATTACKS)
@given(
    observation=npst.arrays(np.float64, (4, 3), elements=st.floats(-5.0, 5.0)),
    epsilon=st.floats(0.0, 2.0),
    seed=st.integers(0, 2**31 - 1),
)
def test_a_change_never_leaves_the_ball(
    kind: type[ObservationAttack], observation: np.ndarray, epsilon: float, seed: int
) -> None:
    policy = network()
    attacked = AttackedPolicy(policy, kind(epsilon=epsilon), seed)
    seen = []
    original = policy.predict
    policy.predict = lambda shown, *rest, **more: (seen.append(shown), original(shown, *rest, **more))[1]
    attacked.predict(observation, deterministic=True)
    moved = np.abs(seen[0] - observation) / scales_of(policy)
    assert (moved <= epsilon * (1.0 + 1e-12) + 1e-14).all()


@pytest.mark.parametrize("kind", ATTACKS)
@given(observation=npst.arrays(np.float64, (4, 3), elements=st.floats(-5.0, 5.0)))
def test_a_ball_of_no_size_changes_nothing(kind: type[ObservationAttack], observation: np.ndarray) -> None:
    policy = network()
    expected = policy.predict(observation, deterministic=True)[0]
    found, _ = AttackedPolicy(policy, kind(epsilon=0.0)).predict(observation, deterministic=True)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ATTACKS)
def test_an_evaluation_without_radius_is_the_same(kind: type[ObservationAttack]) -> None:
    observed, acts = spaces.Box(-np.inf, np.inf, (4,), np.float64), spaces.Box(-3.0, 3.0, (1,), np.float32)
    policy = ActorCriticPolicy(observed, acts, NetworkConfig(hidden_sizes=(8,)))
    plain = evaluate(policy, "InvertedPendulum-v5", episodes=3, deterministic=False)
    attacked = evaluate(
        AttackedPolicy(policy, kind(epsilon=0.0)), "InvertedPendulum-v5", episodes=3, deterministic=False
    )
    np.testing.assert_array_equal(plain.returns, attacked.returns)


@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.parametrize("deterministic", [True, False])
def test_an_episode_does_not_depend_on_how_many_worlds_play(kind: type[ObservationAttack], deterministic: bool) -> None:
    observed, acts = spaces.Box(-np.inf, np.inf, (4,), np.float64), spaces.Box(-3.0, 3.0, (1,), np.float32)
    policy = ActorCriticPolicy(observed, acts, NetworkConfig(hidden_sizes=(8,), log_std_init=-2.0))
    results = []
    for worlds in (1, 5, 18):
        attacked = AttackedPolicy(policy, kind(epsilon=0.5, scales=(0.1, 0.1, 1.0, 1.0)), seed=4)
        found = evaluate(attacked, "InvertedPendulum-v5", episodes=18, num_envs=worlds, deterministic=deterministic)
        results.append(found.returns)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    other = AttackedPolicy(policy, kind(epsilon=0.5), seed=5)
    first = np.zeros((2, 4))
    assert not np.array_equal(
        other.changes(first, AttackState(None, np.zeros(2, np.uint64), np.zeros(2, np.int64))),
        attacked.changes(first, AttackState(None, np.zeros(2, np.uint64), np.zeros(2, np.int64))),
    )


def test_numbers_are_those_of_the_episode_and_the_step() -> None:
    recorder = Recorder()
    attacked = AttackedPolicy(recorder, RandomUniform(epsilon=1.0), seed=1)
    first = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    _, state = attacked.predict(first)
    _, state = attacked.predict(first, state, np.array([False, False]))
    _, state = attacked.predict(first, state, np.array([False, True]))
    begun, later, again = (seen - first for seen in recorder.seen)
    assert not np.array_equal(begun, later)
    np.testing.assert_array_equal(again[1], begun[1])
    assert not np.array_equal(again[0], begun[0])
    np.testing.assert_array_equal(state.policy, [3, 1])
    # A row keeps its numbers wherever it stands.
    attacked.predict(first[::-1])
    np.testing.assert_array_equal(recorder.seen[-1][::-1], recorder.seen[0])
    attacked.predict(first[1])
    np.testing.assert_array_equal(recorder.seen[-1], recorder.seen[0][1])


def test_policies_with_memory_keep_it() -> None:
    policy = TransformerPolicy(OBSERVED, ACTS)
    attacked = AttackedPolicy(policy, RandomVertex(epsilon=0.1))
    state: Any = None
    for _ in range(3):
        _, state = attacked.predict(np.ones((2, 3)), state, None if state is None else np.array([False, True]))
    assert state.policy.caches[0].count.tolist() == [3, 1]
    with pytest.raises(UserError, match="has a memory"):
        AttackedPolicy(policy, CriticAttack(epsilon=0.1))


def test_uniform_fills_the_ball_and_vertices_its_corners() -> None:
    recorder = Recorder()
    rows = np.random.default_rng(0).normal(size=(2000, 3))
    AttackedPolicy(recorder, RandomUniform(epsilon=0.5, scales=(1.0, 2.0, 4.0))).predict(rows)
    uniform = (recorder.seen[-1] - rows) / [1.0, 2.0, 4.0]
    assert np.abs(uniform.mean(0)).max() < 0.03
    np.testing.assert_allclose(uniform.std(0), 0.5 / 3**0.5, rtol=0.05)
    AttackedPolicy(recorder, RandomVertex(epsilon=0.5)).predict(rows)
    np.testing.assert_allclose(np.abs(recorder.seen[-1] - rows), 0.5)


def test_a_unit_is_the_policys_own_deviation_unless_given() -> None:
    policy = network()
    assert policy.module.normalizer is not None
    np.testing.assert_allclose(scales_of(policy), np.sqrt(policy.module.normalizer.var.numpy()), rtol=1e-6)
    np.testing.assert_array_equal(scales_of(network(normalize_observation=False)), np.ones(3))
    np.testing.assert_array_equal(scales_of(policy, (1.0, 2.0, 3.0)), [1.0, 2.0, 3.0])


def test_single_precision_stays_single() -> None:
    recorder = Recorder()
    AttackedPolicy(recorder, RandomUniform(epsilon=0.5)).predict(np.zeros((2, 3), np.float32))
    assert recorder.seen[-1].dtype == np.float32


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandomUniform(epsilon=-0.1), "finite and not negative, got -0.1"),
        (lambda: RandomUniform(epsilon=float("nan")), "finite and not negative"),
        (lambda: CriticAttack(epsilon=0.1, steps=0), "needs steps of some length"),
        (lambda: CriticAttack(epsilon=0.1, step=0.0), "needs steps of some length"),
        (lambda: AttackedPolicy(Recorder(), RandomUniform(epsilon=0.1, scales=(1.0,))), "scales must be 3 positive"),
        (lambda: AttackedPolicy(Recorder(), RandomUniform(epsilon=0.1, scales=(1.0, 0.0, 1.0))), "3 positive"),
        (lambda: AttackedPolicy(Recorder(), MaximalActionDifference(epsilon=0.1)), "Recorder has no torch network"),
        (lambda: AttackedPolicy(Recorder(), CriticAttack(epsilon=0.1)), "with a learned adversary"),
        (
            lambda: AttackedPolicy(ActorCriticPolicy(spaces.Discrete(3), ACTS), RandomUniform(epsilon=0.1)),
            "vectors of real numbers",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_line(make: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_state_of_other_environments_is_refused() -> None:
    attacked = AttackedPolicy(Recorder(), RandomUniform(epsilon=0.1))
    _, state = attacked.predict(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="state and episode_start are of 2 and 3 environments, the observations of 3"):
        attacked.predict(np.zeros((3, 3)), state)
