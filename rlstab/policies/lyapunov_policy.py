"""A controller with the Lyapunov function that is to prove it, behind the policy interface."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlstab.envs.plants import PLANTS, Plant
from rlstab.errors import UserError
from rlstab.policies.lyapunov import LinearFeedback, LyapunovNetwork, NetworkFeedback, QuadraticLyapunov
from rlstab.policies.network_policy import NetworkPolicy, sizes_as_lists, sizes_as_tuples
from rlstab.policies.spaces import space_from_json, space_to_json
from rlstab.policies.tensors import to_array


@dataclass(frozen=True)
class LyapunovShapes:
    """Shapes of a controller and a Lyapunov function."""

    controller_hidden: tuple[int, ...] | None = (8, 8, 8)
    """Widths of the controller's hidden layers (ReLU); None: a linear regulator."""
    lyapunov_hidden: tuple[int, ...] | None = (16, 16, 8)
    """Widths of the hidden layers of ``phi`` (leaky ReLU); None: a quadratic form."""
    lyapunov_outputs: int = 4
    """Of ``phi``: near 0, where no unit changes side, each is one pair of faces of the level sets."""


class CertifiableLoop(nn.Module):
    """Controller, Lyapunov function and level, in float64; ``forward`` is the command within the plant's limits.

    Parameters
    ----------
    plant
        For its sizes, equilibrium and limits.
    config
        Shapes.
    """

    level: Tensor
    """Of ``V``, that training aimed at; 0 before training. Not proved: that is what certificates are for."""
    low: Tensor
    high: Tensor

    def __init__(self, plant: Plant, config: LyapunovShapes) -> None:
        super().__init__()
        size = plant.state_size
        self.controller: nn.Module
        self.lyapunov: nn.Module
        if config.controller_hidden is None:
            self.controller = LinearFeedback(np.zeros((plant.control_size, size)), plant.equilibrium_control)
        else:
            self.controller = NetworkFeedback(size, plant.equilibrium_control, config.controller_hidden)
        if config.lyapunov_hidden is None:
            self.lyapunov = QuadraticLyapunov(np.eye(size))
        else:
            self.lyapunov = LyapunovNetwork(size, config.lyapunov_hidden, output_size=config.lyapunov_outputs)
        self.register_buffer("level", torch.zeros((), dtype=torch.float64))
        self.register_buffer("low", torch.tensor(plant.control_low, dtype=torch.float64))
        self.register_buffer("high", torch.tensor(plant.control_high, dtype=torch.float64))

    def forward(self, observation: Tensor) -> Tensor:
        """States ``(batch, n)``, any precision, to commands ``(batch, m)``, single precision.

        What is computed in between is in double precision, as in the proof; what is read and returned is rounded to
        single, as in an exported file, and the proof allows for that.
        """
        command = torch.clamp(self.controller(observation.float().double()), self.low, self.high)
        return command.float()


class LyapunovPolicy(NetworkPolicy):
    """`CertifiableLoop` behind the policy interface, with the plant it was made for.

    Parameters
    ----------
    observation_space, action_space
        Spaces of one environment, of the plant's sizes.
    plant
        Whose constants are part of what is proved.
    config
        Shapes.
    seed
        Of the initial weights.

    Raises
    ------
    UserError
        The spaces are not those of the plant.

    Examples
    --------
    >>> from gymnasium.spaces import Box
    >>> from rlstab.envs.plants import InvertedPendulum
    >>> policy = LyapunovPolicy(Box(-12.0, 12.0, (2,)), Box(-6.0, 6.0, (1,)), InvertedPendulum())
    >>> policy.predict([0.0, 0.0])[0]
    array([0.], dtype=float32)
    """

    kind = "lyapunov"

    def __init__(
        self,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        plant: Plant,
        config: LyapunovShapes | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        expected = ((plant.state_size,), (plant.control_size,))
        if (observation_space.shape, action_space.shape) != expected:
            found = f"{observation_space.shape} and {action_space.shape}"
            raise UserError(f"{plant.id} has states and controls of shapes {expected}, the spaces have {found}")
        self.observation_space, self.action_space = observation_space, action_space
        self.plant, self.shapes = plant, config or LyapunovShapes()
        # The initial weights of torch's layers come from its global generator, which is put back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._loop = CertifiableLoop(plant, self.shapes).requires_grad_(False).to(device)

    @property
    def module(self) -> CertifiableLoop:
        """Controller, Lyapunov function and level; ``forward(observation)`` is the command."""
        return self._loop

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self._loop.level.device

    @property
    def level(self) -> float:
        """Of ``V``, that training aimed at; 0 before training."""
        return float(self._loop.level)

    @torch.no_grad()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """See `Policy.predict`; it has neither memory nor chance."""
        del episode_start, deterministic
        tensor, batched = self._read(observation)
        result = to_array(self._loop(tensor))
        return (result if batched else result[0]), state

    def deterministic_module(self) -> nn.Module:
        """See `TorchPolicy.deterministic_module`."""
        return _Commands(self._loop).eval()

    def config(self) -> dict[str, Any]:
        """See `TorchPolicy.config`."""
        return {
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "plant": {"id": self.plant.id, "constants": sizes_as_lists(asdict(self.plant))},
            "shapes": sizes_as_lists(asdict(self.shapes)),
        }

    @classmethod
    def _from_config(cls, config: dict[str, Any], device: torch.device | str) -> Self:
        spaces = (space_from_json(config["observation_space"]), space_from_json(config["action_space"]))
        described = config["plant"]
        if described["id"] not in PLANTS:
            raise UserError(f"unknown plant '{described['id']}': the file was written by another version")
        plant = PLANTS[described["id"]](**sizes_as_tuples(described["constants"]))
        return cls(*spaces, plant, LyapunovShapes(**sizes_as_tuples(config["shapes"])), device=device)


class _Commands(nn.Module):
    """What is exported: the controller alone, without the Lyapunov function."""

    low: Tensor
    high: Tensor

    def __init__(self, loop: CertifiableLoop) -> None:
        super().__init__()
        self.controller = loop.controller
        self.register_buffer("low", loop.low)
        self.register_buffer("high", loop.high)

    def forward(self, observation: Tensor) -> Tensor:
        command = self.controller(observation.double())
        return torch.minimum(torch.maximum(command, self.low), self.high).float()
