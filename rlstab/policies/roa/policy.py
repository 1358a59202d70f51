"""The mode controller of the region-of-attraction method as a policy: it is told the mode by its observation."""

from __future__ import annotations

import importlib
from typing import Any, Self

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rlstab.errors import UserError, suggest
from rlstab.policies.network_policy import NetworkPolicy, sizes_as_lists, sizes_as_tuples
from rlstab.policies.roa.model import RoaModel
from rlstab.policies.spaces import space_from_json, space_to_json
from rlstab.policies.tensors import to_array

# Name of the hybrid system -> its networks. A new system adds its line here.
MODELS = {
    "car": "rlstab.policies.roa.car:CarModel",
    "pogobot": "rlstab.policies.roa.pogobot:PogobotModel",
    "walker": "rlstab.policies.roa.walker:WalkerModel",
}


def make_model(system: str, **settings: Any) -> RoaModel:
    """Build the networks of a system, with fresh weights.

    Raises
    ------
    UserError
        The system is unknown.
    """
    if system not in MODELS:
        raise UserError(f"no networks are known for the hybrid system '{system}'{suggest(system, MODELS)}")
    module, _, name = MODELS[system].partition(":")
    return getattr(importlib.import_module(module), name)(**settings)


class RoaPolicy(NetworkPolicy):
    """`RoaModel` behind the policy interface.

    It follows the reference that it observes; what chooses references is `rlstab.controllers.roa.planner`.

    Parameters
    ----------
    observation_space, action_space
        Spaces of the system's environment.
    model
        Its networks.
    """

    kind = "roa"

    def __init__(
        self,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        model: RoaModel,
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(action_space, gymnasium.spaces.Box):
            raise UserError(f"the controller gives real numbers, not a {type(action_space).__name__}")
        self.observation_space, self.action_space = observation_space, action_space
        self._model = model.to(device)

    @property
    def module(self) -> RoaModel:
        """The networks; ``forward(observation)`` is the action."""
        return self._model

    @torch.no_grad()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """See `rlstab.policies.base.Policy.predict`; it has neither memory nor chance."""
        del episode_start, deterministic
        space = self.action_space
        assert isinstance(space, gymnasium.spaces.Box)
        tensor, batched = self._read(observation)
        action = np.clip(to_array(self._model(tensor)), space.low, space.high)
        return (action if batched else action[0]), state

    def deterministic_module(self) -> nn.Module:
        """See `TorchPolicy.deterministic_module`."""
        return self._model.eval()

    def config(self) -> dict[str, Any]:
        """See `TorchPolicy.config`."""
        return {
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "system": self._model.system,
            "model": sizes_as_lists(self._model.settings()),
        }

    @classmethod
    def _from_config(cls, config: dict[str, Any], device: torch.device | str) -> Self:
        spaces = (space_from_json(config["observation_space"]), space_from_json(config["action_space"]))
        return cls(*spaces, make_model(config["system"], **sizes_as_tuples(config["model"])), device)
