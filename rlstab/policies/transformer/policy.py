"""Transformer actor-critic behind the policy interface."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlstab.policies.actor_critic import NetworkConfig
from rlstab.policies.base import TorchPolicy, as_batch
from rlstab.policies.spaces import space_from_json, space_to_json
from rlstab.policies.tensors import arrays_to_state, state_to_arrays, to_array, to_tensor
from rlstab.policies.transformer.config import TransformerConfig
from rlstab.policies.transformer.network import Memory, TransformerActorCritic
from rlstab.policies.transformer.recurrent import RecurrentActor
from rlstab.runs.config import validate


class TransformerPolicy(TorchPolicy):
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
        initial = torch.Generator().manual_seed(seed)
        self._network = TransformerActorCritic(
            observation_space, action_space, self.heads, self.transformer_config, initial
        ).to(device)

    @property
    def module(self) -> TransformerActorCritic:
        """The network; ``forward(observations)`` of an episode's first steps is the distribution at the last."""
        return self._network

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self._network.embedding.weight.device

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
            The state or ``episode_start`` is that of another number of environments.
        """
        network = self._network
        array, batched = as_batch(observation, self.observation_space)
        observations = to_tensor(array, self.device, None if array.dtype == np.uint8 else torch.float32)
        count = len(array)
        memory = network.empty_memory(count) if state is None else state.rows(slice(None))
        if len(memory.previous) != count:
            raise ValueError(f"the state remembers {len(memory.previous)} environments, there are {count} observations")
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
            "network": {**asdict(self.heads), "hidden_sizes": list(self.heads.hidden_sizes)},
            "transformer": asdict(self.transformer_config),
        }

    def state_dict(self) -> dict[str, Any]:
        """See `TorchPolicy.state_dict`."""
        return {"kind": self.kind, "config": self.config(), "weights": state_to_arrays(self._network)}

    def load_weights(self, weights: dict[str, Any]) -> None:
        """Load the ``weights`` part of `state_dict`.

        Raises
        ------
        UserError
            They belong to another network.
        """
        arrays_to_state(self._network, weights)

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device | str = "cpu") -> TransformerPolicy:
        """Rebuild a policy from `state_dict`."""
        config = state["config"]
        heads = dict(config["network"])
        heads["hidden_sizes"] = tuple(heads["hidden_sizes"])
        policy = cls(
            space_from_json(config["observation_space"]),
            space_from_json(config["action_space"]),
            NetworkConfig(**heads),
            TransformerConfig(**config["transformer"]),
            device=device,
        )
        policy.load_weights(state["weights"])
        return policy
