from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.policies import BasePolicy

from rlstab.errors import UserError
from rlstab.policies.loading import policy_from_state
from rlstab.policies.sb3 import SB3Policy

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float64)
BOUNDED = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 4.0], np.float32))
CHOICE = spaces.Discrete(3)
IMAGE = spaces.Box(0, 255, (40, 44, 3), np.uint8)


def make(algorithm, observation_space=VECTOR, action_space=BOUNDED, network="MlpPolicy"):
    """A policy of ours and Stable-Baselines3's own that it is made of, with weights that are not zero anywhere."""
    torch.manual_seed(0)
    seen = observation_space
    if observation_space is IMAGE:
        seen = spaces.Box(0, 255, (3, 40, 44), np.uint8)
    policy_class = algorithm.policy_aliases[network]
    theirs: BasePolicy = policy_class(seen, action_space, lambda _: 1e-3, net_arch=[16, 8])
    return SB3Policy(theirs, algorithm.__name__.lower(), observation_space, action_space), theirs


CASES = [
    (SAC, VECTOR, BOUNDED, "MlpPolicy"),
    (TD3, VECTOR, BOUNDED, "MlpPolicy"),
    (DQN, VECTOR, CHOICE, "MlpPolicy"),
    (DQN, spaces.Discrete(5), CHOICE, "MlpPolicy"),
    (DQN, IMAGE, CHOICE, "CnnPolicy"),
    (DQN, IMAGE, CHOICE, "MlpPolicy"),
    (SAC, IMAGE, BOUNDED, "CnnPolicy"),
]


def observations(space, count=7):
    space.seed(1)
    return np.stack([space.sample() for _ in range(count)])


@pytest.mark.parametrize("case", CASES)
def test_predicts_as_stable_baselines_does(case):
    ours, theirs = make(*case)
    batch = observations(ours.observation_space)
    expected, _ = theirs.predict(batch, deterministic=True)
    actual, _ = ours.predict(batch, deterministic=True)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    single, _ = ours.predict(batch[2], deterministic=True)
    np.testing.assert_allclose(single, expected[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_deterministic_module_is_what_predict_does(case):
    ours, _ = make(*case)
    batch = observations(ours.observation_space)
    tensor = torch.as_tensor(batch) if batch.dtype.kind != "f" else torch.as_tensor(batch, dtype=torch.float32)
    with torch.no_grad():
        actions = ours.deterministic_module()(tensor).numpy()
    np.testing.assert_allclose(actions, ours.predict(batch, deterministic=True)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_state_rebuilds_the_policy(case):
    ours, _ = make(*case)
    state = ours.state_dict()
    json.dumps(state["config"])
    rebuilt = policy_from_state(state)
    batch = observations(ours.observation_space)
    np.testing.assert_array_equal(
        rebuilt.predict(batch, deterministic=True)[0], ours.predict(batch, deterministic=True)[0]
    )
    assert rebuilt.config() == ours.config()


def test_samples_differ_stay_in_the_space_and_follow_the_global_seed():
    ours, theirs = make(SAC)
    batch = observations(VECTOR, 256)
    torch.manual_seed(3)
    first, _ = ours.predict(batch)
    torch.manual_seed(3)
    again, _ = ours.predict(batch)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - ours.predict(batch, deterministic=True)[0]).max() > 0.1
    assert all(BOUNDED.contains(action) for action in first)
    torch.manual_seed(4)
    samples = np.stack([ours.predict(batch[:1])[0] for _ in range(400)])
    torch.manual_seed(5)
    expected = np.stack([theirs.predict(batch[:1])[0] for _ in range(400)])
    np.testing.assert_allclose(samples.mean(0), expected.mean(0), atol=0.25)
    np.testing.assert_allclose(samples.std(0), expected.std(0), atol=0.25)


def test_module_is_differentiable_and_gives_what_the_algorithm_has():
    observation = torch.zeros(2, 3, requires_grad=True)
    distribution = make(SAC)[0].module(observation)
    assert distribution.log_prob(distribution.rsample()).shape == (2,)
    action = make(TD3)[0].module(observation)
    action.sum().backward()
    assert observation.grad is not None
    assert make(DQN, VECTOR, CHOICE)[0].module(observation).shape == (2, 3)


def test_foreign_weights_are_refused():
    ours, _ = make(SAC)
    with pytest.raises(UserError, match="another network"):
        ours.load_weights(make(TD3)[0].state_dict()["weights"])


def test_unknown_algorithm_is_refused():
    with pytest.raises(UserError, match="sac, td3, dqn"):
        SB3Policy(make(SAC)[1], "ddpg", VECTOR, BOUNDED)
