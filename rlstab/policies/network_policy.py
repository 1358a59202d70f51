"""What policies around our own networks have in common: their device, how they are saved, and how they read."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from rlstab.policies.base import TorchPolicy, as_batch
from rlstab.policies.tensors import arrays_to_state, state_to_arrays, to_tensor


class NetworkPolicy(TorchPolicy):
    """A policy that is one network, rebuilt from its configuration and weights."""

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return next(self.module.parameters()).device

    def state_dict(self) -> dict[str, Any]:
        """See `TorchPolicy.state_dict`."""
        return {"kind": self.kind, "config": self.config(), "weights": state_to_arrays(self.module)}

    def load_weights(self, weights: dict[str, Any]) -> None:
        """Load the ``weights`` part of `state_dict`.

        Raises
        ------
        UserError
            They belong to another network.
        """
        arrays_to_state(self.module, weights)

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device | str = "cpu") -> Self:
        """Rebuild a policy from `state_dict`."""
        policy = cls._from_config(state["config"], device)
        policy.load_weights(state["weights"])
        return policy

    @classmethod
    @abstractmethod
    def _from_config(cls, config: dict[str, Any], device: torch.device | str) -> Self:
        """Build a policy with fresh weights from what `config` returned."""

    def _read(self, observation: Any) -> tuple[Tensor, bool]:
        """Observations as a batch on the device, and whether they were one already; see `as_batch`."""
        array, batched = as_batch(observation, self.observation_space)
        return to_tensor(array, self.device, None if array.dtype == np.uint8 else torch.float32), batched


def sizes_as_lists(network: dict[str, Any]) -> dict[str, Any]:
    """Make the layers of a network's configuration lists, as checkpoints and JSON hold them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in network.items()}


def sizes_as_tuples(network: dict[str, Any]) -> dict[str, Any]:
    """Undo `sizes_as_lists`."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in network.items()}
