"""Transformer actor-critic behind the policy interface."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Self

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlstab.policies.actor_critic import NetworkConfig
from rlstab.policies.network_policy import NetworkPolicy, sizes_as_lists, sizes_as_tuples
from rlstab.policies.spaces import space_from_json, space_to_json
from rlstab.policies.tensors import to_array, to_tensor
from rlstab.policies.transformer.config import TransformerConfig
from rlstab.policies.transformer.network import Memory, TransformerActorCritic
from rlstab.policies.transformer.recurrent import RecurrentActor
from rlstab.policies.transformer.size import check_weights
from rlstab.runs.config import validate


class TransformerPolicy(NetworkPolicy):
    """A policy that remembers the newest steps of an episode.

    Parameters
    ----------
    observation_space, action_space
        Spaces of one environment.
    heads
        Perceptrons behind the transformer, initial action noise, normalisation; default: linear heads.
    config
        The transformer.
    seed
        Seeds the initial weights. Sampling in `predict` draws from torch's global generator, as
        Stable-Baselines3's policies do.
    device
        Where the network lives.

    Examples
    --------
    >>> from gymnasium.spaces import Box
    >>> policy = TransformerPolicy(Box(-1.0, 1.0, (3,)), Box(-1.0, 1.0, (2,)))
    >>> action, state = policy.predict([0.1, 0.2, 0.3])
    >>> action, state = policy.predict([0.1, 0.2, 0.4], state)
    >>> int(state.caches[0].count)
    2
    """

    kind = "transformer"

    def __init__(
        self,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        heads: NetworkConfig | None = None,
        config: TransformerConfig | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.heads = heads or NetworkConfig(hidden_sizes=())
        self.transformer_config = config or TransformerConfig()
        validate(self.transformer_config)
        check_weights(self.transformer_config, torch.device(device))
        initial = torch.Generator().manual_seed(seed)
        self._network = TransformerActorCritic(
            observation_space, action_space, self.heads, self.transformer_config, initial
        ).to(device)

    @property
    def module(self) -> TransformerActorCritic:
        """The network; ``forward(observations)`` of an episode's first steps is the distribution at the last."""
        return self._network

    @torch.no_grad()
    def predict(
        self,
        observation: Any,
        state: Memory | None = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Memory]:
        """See `Policy.predict`; ``Box`` actions are clipped to the space.

        The state that is returned is a new one: the one given can be used again.

        Raises
        ------
        ValueError
            An observation has another shape or holds NaN or infinity; the state is that of another policy, or it or
            ``episode_start`` is that of another number of environments.
        """
        network = self._network
        observations, batched = self._read(observation)
        count = len(observations)
        memory = network.empty_memory(count)
        if state is not None:
            if not (isinstance(state, Memory) and state.fits(memory)):
                raise ValueError(
                    f"the state is not one of this policy for {count} environments: give what its last call returned, "
                    "or None at the beginning"
                )
            memory = state.rows(slice(None))
        if episode_start is not None:
            starts = np.atleast_1d(episode_start)
            if starts.shape != (count,):
                raise ValueError(f"episode_start must have {count} entries, one an environment, got {starts.shape}")
            memory.begin(to_tensor(starts, self.device, torch.bool))
        outputs = network.actor(network.step(observations, memory))
        action = network.head.mode(outputs) if deterministic else network.head.sample(outputs)
        memory.previous = network.head.encode(action)
        result = to_array(network.head.to_environment(action))
        return (result if batched else result[0]), memory

    def deterministic_module(self) -> nn.Module:
        """See `TorchPolicy.deterministic_module`; also takes and gives the state, see `RecurrentActor`."""
        return RecurrentActor(self._network).eval()

    def config(self) -> dict[str, Any]:
        """See `TorchPolicy.config`."""
        return {
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "network": sizes_as_lists(asdict(self.heads)),
            "transformer": asdict(self.transformer_config),
        }

    @classmethod
    def _from_config(cls, config: dict[str, Any], device: torch.device | str) -> Self:
        spaces = (space_from_json(config["observation_space"]), space_from_json(config["action_space"]))
        heads = NetworkConfig(**sizes_as_tuples(config["network"]))
        return cls(*spaces, heads, TransformerConfig(**config["transformer"]), device=device)
