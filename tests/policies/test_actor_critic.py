"""Actor-critic policies: SB3's predict protocol, distributions, and life without pickle."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlstab.errors import UserError
from rlstab.policies.actor_critic import ActorCriticPolicy, NetworkConfig
from rlstab.policies.base import Policy
from rlstab.policies.loading import policy_from_state

VECTOR = spaces.Box(-np.inf, np.inf, (4,), np.float64)
IMAGE_LAST = spaces.Box(0, 255, (40, 40, 3), np.uint8)
SMALL_GRID = spaces.Box(0, 255, (7, 7, 3), np.uint8)
IMAGE_FIRST = spaces.Box(0, 255, (4, 36, 48), np.uint8)
ACTIONS = [
    spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 5.0], np.float32)),
    spaces.Discrete(3, start=2),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [0, -3]]),
    spaces.MultiBinary(3),
    spaces.MultiBinary((2, 2)),
]


def spread(policy):
    """Make the actor's outputs large enough to matter: they start near zero."""
    with torch.no_grad():
        policy.module.actor.layers[-1].weight.mul_(300.0)
        if policy.module.normalizer is not None and policy.observation_space is VECTOR:
            policy.module.normalizer.update(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) + 1.0)
    return policy


@pytest.mark.parametrize("action_space", ACTIONS, ids=lambda space: type(space).__name__)
@pytest.mark.parametrize(
    "observation_space", [VECTOR, spaces.Discrete(5, start=1), IMAGE_LAST, IMAGE_FIRST, SMALL_GRID]
)
def test_predict_gives_actions_of_the_space(observation_space, action_space):
    policy = spread(ActorCriticPolicy(observation_space, action_space))
    assert isinstance(policy, Policy)
    observation_space.seed(0)
    observations = np.stack([observation_space.sample() for _ in range(6)]) if observation_space is not VECTOR else (
        np.random.default_rng(0).normal(size=(6, 4))
    )  # fmt: skip
    for deterministic in (True, False):
        batch, state = policy.predict(observations, deterministic=deterministic)
        assert state is None
        assert len(batch) == 6
        for action in batch:
            assert action_space.contains(np.asarray(action, action_space.dtype)), action
    one, _ = policy.predict(observations[2], deterministic=True)
    np.testing.assert_allclose(one, policy.predict(observations, deterministic=True)[0][2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("action_space", ACTIONS, ids=lambda space: type(space).__name__)
def test_state_survives_and_rebuilds_the_same_policy(action_space):
    policy = spread(ActorCriticPolicy(VECTOR, action_space, NetworkConfig(hidden_sizes=(8, 5), activation="silu"), 3))
    again = policy_from_state(policy.state_dict())
    observations = np.random.default_rng(1).normal(size=(9, 4))
    for deterministic in (True,):
        np.testing.assert_array_equal(
            policy.predict(observations, deterministic=deterministic)[0],
            again.predict(observations, deterministic=deterministic)[0],
        )
    assert again.config() == policy.config()
    torch.testing.assert_close(again.module.value(torch.ones(2, 4)), policy.module.value(torch.ones(2, 4)))


@pytest.mark.parametrize("action_space", ACTIONS, ids=lambda space: type(space).__name__)
def test_exported_module_is_the_deterministic_policy(action_space):
    policy = spread(ActorCriticPolicy(VECTOR, action_space))
    observations = np.random.default_rng(2).normal(size=(5, 4)) * 4.0
    module = policy.deterministic_module()
    exported = module(torch.tensor(observations, dtype=torch.float32)).detach().numpy()
    np.testing.assert_array_equal(exported, policy.predict(observations, deterministic=True)[0])


def test_box_actions_are_clipped_to_the_bounds_only_on_the_way_out():
    policy = spread(ActorCriticPolicy(VECTOR, ACTIONS[0]))
    observations = np.random.default_rng(3).normal(size=(200, 4)) * 50.0
    actions, _ = policy.predict(observations, deterministic=True)
    low, high = ACTIONS[0].low, ACTIONS[0].high
    means = policy.module(torch.tensor(observations, dtype=torch.float32)).mode.detach().numpy()
    np.testing.assert_allclose(actions, np.clip(means, low, high), rtol=1e-4, atol=1e-4)
    assert (actions >= low).all()
    assert (actions <= high).all()
    assert ((means < low) | (means > high)).mean() > 0.3, "the bounds must matter"


@pytest.mark.parametrize("action_space", ACTIONS, ids=lambda space: type(space).__name__)
def test_sampling_follows_the_distribution(action_space):
    policy = spread(ActorCriticPolicy(VECTOR, action_space, NetworkConfig(log_std_init=-0.5)))
    head = policy.module.head
    outputs = policy.module.actor(policy.module.features(torch.ones(1, 4))).detach() * 0.1
    many = outputs.expand(20_000, -1)
    samples = head.sample(many, torch.Generator().manual_seed(0))
    # Monte-Carlo entropy of the samples under the distribution that is said to have made them.
    estimate = -head(many).log_prob(samples).mean()
    torch.testing.assert_close(estimate, head(outputs).entropy()[0], rtol=0.02, atol=0.01)


def test_gradients_reach_the_observation():
    policy = spread(ActorCriticPolicy(VECTOR, ACTIONS[0]))
    observation = torch.randn(1, 4, requires_grad=True)
    policy.module(observation).mode.sum().backward()
    assert observation.grad is not None
    assert float(observation.grad.abs().sum()) > 0.0


def test_weights_of_another_network_are_refused():
    small, large = ActorCriticPolicy(VECTOR, ACTIONS[0]), ActorCriticPolicy(VECTOR, ACTIONS[0], NetworkConfig((8,)))
    with pytest.raises(UserError, match="another network"):
        small.load_weights(large.state_dict()["weights"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActorCriticPolicy(spaces.Dict({"a": VECTOR}), ACTIONS[0]), "FlattenObservation"),
        (lambda: ActorCriticPolicy(VECTOR, spaces.Dict({"a": VECTOR})), "not supported"),
        (lambda: ActorCriticPolicy(VECTOR, ACTIONS[0], NetworkConfig(activation="sine")), "use one of tanh"),
        (lambda: policy_from_state({"kind": "actor_critik"}), "did you mean 'actor_critic'"),
    ],
)
def test_bad_input_is_one_clear_line(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_wrong_observation_shape_is_named():
    with pytest.raises(ValueError, match=r"shape \(3,\); expected \(4,\)"):
        ActorCriticPolicy(VECTOR, ACTIONS[0]).predict(np.zeros(3))
