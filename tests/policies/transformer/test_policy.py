from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rlstab.errors import UserError
from rlstab.policies.loading import policy_from_state
from rlstab.policies.transformer.config import TransformerConfig
from rlstab.policies.transformer.policy import TransformerPolicy

SEEN = Box(-np.inf, np.inf, (3,))


def made(**shape: object) -> TransformerPolicy:
    return TransformerPolicy(SEEN, Discrete(4), config=TransformerConfig(width=16, window=5, **shape))  # pyright: ignore[reportArgumentType]


def test_a_state_can_be_used_again() -> None:
    policy, rng = made(observation_change=True), np.random.default_rng(0)
    first, second = rng.standard_normal((2, 2, 3))
    _, state = policy.predict(first, deterministic=True)
    before = [part.clone() for part in state._parts()]
    policy.predict(second, state)
    assert all((a == b).all() for a, b in zip(before, state._parts(), strict=True))


@pytest.mark.parametrize(
    "state",
    [
        (np.zeros((1, 2, 64)), np.zeros((1, 2, 64))),
        made(num_layers=1).predict(np.zeros((2, 3)))[1],
        made().predict(np.zeros((5, 3)))[1],
        TransformerPolicy(Box(-1, 1, (4,)), Discrete(4), config=TransformerConfig(width=16, window=5)).predict(
            np.zeros((2, 4))
        )[1],
    ],
    ids=["an LSTM's", "other layers", "other worlds", "other observations"],
)
def test_the_state_of_another_is_refused_in_one_line(state: object) -> None:
    with pytest.raises(ValueError, match="the state is not one of this policy for 2 environments"):
        made().predict(np.zeros((2, 3)), state)  # pyright: ignore[reportArgumentType]


def test_episode_starts_are_one_an_environment() -> None:
    with pytest.raises(ValueError, match="episode_start must have 2 entries"):
        made().predict(np.zeros((2, 3)), episode_start=[True])


def test_saved_and_rebuilt_it_acts_the_same() -> None:
    policy = made(observation_change=True)
    again = policy_from_state(policy.state_dict())
    seen = np.random.default_rng(0).standard_normal((6, 2, 3))
    state = other = None
    for observation in seen:
        action, state = policy.predict(observation, state, deterministic=True)
        same, other = again.predict(observation, other, deterministic=True)
        assert (action == same).all()


@pytest.mark.parametrize("actions", [Discrete(4), Box(-1.0, 1.0, (2,)), MultiDiscrete([3, 2])], ids=str)
@pytest.mark.parametrize("deterministic", [True, False])
def test_no_environments_get_no_actions(actions: gymnasium.Space, deterministic: bool) -> None:
    shape = TransformerConfig(width=16, window=5, observation_change=True)
    policy = TransformerPolicy(SEEN, actions, config=shape)
    found, state = policy.predict(np.zeros((0, 3)), deterministic=deterministic)
    again, _ = policy.predict(np.zeros((0, 3)), state, [], deterministic)
    assert found.shape == again.shape == (0, *(actions.shape or ()))


def test_single_numbers_are_observations() -> None:
    shape = TransformerConfig(width=16, window=5, observation_change=True)
    scalar, vector = (TransformerPolicy(Box(-1.0, 1.0, size), Discrete(4), config=shape) for size in ((), (1,)))
    state = other = None
    for number in (0.1, -0.4, 0.9):
        action, state = scalar.predict(np.float32(number), state, deterministic=True)
        same, other = vector.predict([number], other, deterministic=True)
        assert action == same
        np.testing.assert_array_equal(state.caches[1].k, other.caches[1].k)
    assert scalar.predict(np.zeros(6))[0].shape == (6,)


def test_the_network_names_observations_that_do_not_fit() -> None:
    network = made().module
    with pytest.raises(UserError, match=r"observations must be \(B, T, ...\) with a step at least, got \(2, 0, 3\)"):
        network.outputs(torch.zeros(2, 0, 3))
    for wrong in (torch.zeros(2, 4, 5), torch.zeros(2, 4)):
        with pytest.raises(UserError, match="observations must be of 3 numbers each"):
            network.outputs(wrong)
