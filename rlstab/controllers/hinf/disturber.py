"""The second player: a policy over forces, learned by the clipped surrogate of PPO."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstab.controllers.hinf.game_config import GameConfig
from rlstab.learning.flat import FlatAdam, FlatParameters
from rlstab.learning.surrogate import Minibatch, gradient_rule
from rlstab.policies.distributions import ActionHead
from rlstab.policies.networks import MLP
from rlstab.policies.tensors import arrays_to_state, state_to_arrays


class DisturberNetwork(nn.Module):
    """Force and value from the actor's features: what `gradient_rule` differentiates.

    Parameters
    ----------
    inputs
        Number of features.
    channels
        Components of the force, in units of the longest force.
    config
        Widths and initial noise.
    generator
        Source of the initial weights.
    """

    trunk = None

    def __init__(self, inputs: int, channels: int, config: GameConfig, generator: torch.Generator) -> None:
        super().__init__()
        space = spaces.Box(-np.inf, np.inf, (channels,), np.float32)
        self.head = ActionHead(space, math.log(config.disturber_std))
        hidden = config.disturber_hidden_sizes
        own = () if config.linear_disturber else hidden
        self.actor = MLP((inputs, *own, channels), config.activation, 0.01, generator)
        self.critic = MLP((inputs, *hidden, 1), config.activation, 1.0, generator)


class Disturber:
    """The network and its learning.

    Parameters
    ----------
    network
        See `DisturberNetwork`.
    config
        Of the game.
    """

    def __init__(self, network: DisturberNetwork, config: GameConfig) -> None:
        self.network = network
        self._config = config
        self._flat = FlatParameters(network.parameters())
        self._optimizer = FlatAdam(self._flat)
        settings: Any = _Settings(config)
        self._gradient = gradient_rule(network, settings)  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def decide(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Draw forces ``(N, channels)``, in units of the longest force; not yet shortened."""
        return self.network.head.sample(self.network.actor(features), generator)

    @torch.no_grad()
    def log_probs(self, features: Tensor, forces: Tensor) -> Tensor:
        """Logarithms of the densities of forces, ``(N,)``."""
        return self.network.head(self.network.actor(features)).log_prob(forces)

    @torch.no_grad()
    def values(self, features: Tensor) -> Tensor:
        """What the disturber expects to earn, ``(...)``."""
        return self.network.critic(features).squeeze(-1)

    def learn(self, samples: Minibatch, generator: torch.Generator) -> dict[str, float]:
        """Pass over the samples as often as the actor does.

        Returns
        -------
        dict
            Means over the last pass, for the log.
        """
        config = self._config
        summaries = []
        size = min(config.batch_size, samples.count)
        for _ in range(config.n_epochs):
            order = torch.randperm(samples.count, generator=generator, device=samples.returns.device)
            summaries = []
            for batch in samples.minibatches(order, size):
                if batch.count < 2:
                    continue
                self._flat.gradient.zero_()
                summaries.append(self._gradient(batch).summary(config.clip_range))
                self._flat.clip_gradient(config.max_grad_norm)
                self._optimizer.step(config.disturber_learning_rate)
        names = ("approx_kl", "value_loss", "entropy")
        return {name: float(torch.stack([summary[name] for summary in summaries]).mean()) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue."""
        return {"weights": state_to_arrays(self.network), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        arrays_to_state(self.network, state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])


class _Settings:
    """The game's configuration with the disturber's entropy weight."""

    def __init__(self, config: GameConfig) -> None:
        self._config = config
        self.ent_coef = config.disturber_ent_coef

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)
