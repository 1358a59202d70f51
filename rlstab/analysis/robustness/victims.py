"""What attacks that follow a gradient ask of a policy, whatever its network is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Categorical, Distribution, Normal, kl_divergence

from rlstab.errors import UserError
from rlstab.policies.actor_critic import ActorCritic
from rlstab.policies.base import Policy

Answer = Callable[[Tensor], Tensor]
"""Numbers ``(N,)`` for raw observations ``(N, obs_dim)``, differentiable; a row's depends on its own row alone."""


class Victim(ABC):
    """A frozen policy, differentiable in raw float32 observations ``(N, obs_dim)``."""

    device: torch.device

    @abstractmethod
    def divergence_from(self, observation: Tensor) -> Answer:
        """How far the distribution of actions is from that at ``observation``: ``KL(there || here)`` in nats."""

    @abstractmethod
    def value(self, observation: Tensor) -> Tensor:
        """What the policy's own critic expects, ``(N,)``."""

    @abstractmethod
    def action(self, observation: Tensor) -> Tensor:
        """Deterministic ``Box`` actions ``(N, act_dim)``, not clipped, or probabilities of discrete ones ``(N, n)``."""


class _ActorCriticVictim(Victim):
    """One of our memoryless networks."""

    def __init__(self, network: ActorCritic, shape: tuple[int, ...]) -> None:
        self._network = network
        self._shape = shape
        self.device = next(network.parameters()).device

    def divergence_from(self, observation: Tensor) -> Answer:
        with torch.no_grad():
            clean = self._outputs(observation)
        return lambda other: self._network.head.divergence(clean, self._outputs(other))

    def value(self, observation: Tensor) -> Tensor:
        return self._network.value(observation.reshape(-1, *self._shape))

    def action(self, observation: Tensor) -> Tensor:
        outputs = self._outputs(observation)
        return outputs.softmax(-1) if isinstance(self._network.head.space, spaces.Discrete) else outputs

    def _outputs(self, observation: Tensor) -> Tensor:
        return self._network.actor(self._network.features(observation.reshape(-1, *self._shape)))


class _SB3OnPolicyVictim(Victim):
    """``ActorCriticPolicy`` of Stable-Baselines3 (PPO, A2C), as its ``.zip`` gives it."""

    def __init__(self, policy: Any, shape: tuple[int, ...]) -> None:
        self._policy = policy
        self._shape = shape
        self.device = policy.device

    def divergence_from(self, observation: Tensor) -> Answer:
        with torch.no_grad():
            clean = self._distribution(observation)

        def divergence(other: Tensor) -> Tensor:
            found = kl_divergence(clean, self._distribution(other))
            return found.flatten(1).sum(-1) if found.ndim > 1 else found

        return divergence

    def value(self, observation: Tensor) -> Tensor:
        return self._policy.predict_values(observation.reshape(-1, *self._shape)).squeeze(-1)

    def action(self, observation: Tensor) -> Tensor:
        distribution = self._distribution(observation)
        return distribution.probs if isinstance(distribution, Categorical) else distribution.mean

    def _distribution(self, observation: Tensor) -> Distribution:
        found = self._policy.get_distribution(observation.reshape(-1, *self._shape)).distribution
        if not isinstance(found, Normal | Categorical):
            raise UserError(f"attacks by gradient know Box and Discrete actions, not {self._policy.action_space}")
        return found


class _SB3OffPolicyVictim(Victim):
    """`rlstab.policies.sb3.SB3Policy`: SAC, TD3 or DQN.

    DQN and TD3 do not draw their actions. For DQN the divergence is the surprise at the action chosen, under a softmax
    of the action values; for TD3 half the squared distance of actions relative to their range.
    """

    def __init__(self, policy: Any, shape: tuple[int, ...]) -> None:
        self._network = policy.module
        self._owner = policy._policy
        self._algorithm = policy.algorithm
        self._shape = shape
        self.device = policy.device

    def divergence_from(self, observation: Tensor) -> Answer:
        network = self._network
        with torch.no_grad():
            if self._algorithm == "sac":
                clean = Normal(*network.gaussian(observation.reshape(-1, *self._shape)))
                return lambda other: kl_divergence(
                    clean, Normal(*network.gaussian(other.reshape(-1, *self._shape)))
                ).sum(-1)
            answer = self._forward(observation)
        if self._algorithm == "td3":
            width = network.high - network.low
            return lambda other: 0.5 * ((self._forward(other) - answer) / width).square().sum(-1)
        chosen = answer.argmax(-1, keepdim=True)
        return lambda other: -self._forward(other).log_softmax(-1).gather(-1, chosen).squeeze(-1)

    def value(self, observation: Tensor) -> Tensor:
        if self._algorithm == "dqn":
            return self._forward(observation).amax(-1)
        network = self._network
        squashed = 2.0 * (self.action(observation) - network.low) / (network.high - network.low) - 1.0
        values = self._owner.critic(observation.reshape(-1, *self._shape), squashed)
        return torch.cat(values, dim=-1).amin(-1)

    def action(self, observation: Tensor) -> Tensor:
        if self._algorithm == "sac":
            mean, _ = self._network.gaussian(observation.reshape(-1, *self._shape))
            return self._network.unscale(mean.tanh())
        answer = self._forward(observation)
        return answer.softmax(-1) if self._algorithm == "dqn" else answer

    def _forward(self, observation: Tensor) -> Tensor:
        return self._network(observation.reshape(-1, *self._shape))


def victim_of(policy: Policy) -> Victim:
    """Open a policy up for attacks by gradient.

    Raises
    ------
    UserError
        It has no differentiable network, or one with memory, whose gradient would have to go through the episode.
    """
    shape = tuple(policy.observation_space.shape or ())
    network = getattr(policy, "module", None)
    if isinstance(network, ActorCritic):
        return _ActorCriticVictim(network, shape)
    if getattr(policy, "kind", None) == "sb3":
        return _SB3OffPolicyVictim(policy, shape)
    if hasattr(policy, "get_distribution") and hasattr(policy, "predict_values"):
        return _SB3OnPolicyVictim(policy, shape)
    what = "has a memory" if network is not None else "has no torch network"
    raise UserError(
        f"{type(policy).__name__} {what}, so that no gradient says how to change an observation: "
        "attack it by chance or with a learned adversary"
    )
