"""What the networks of the region-of-attraction method offer, whatever the hybrid system."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class RoaModel(nn.Module, ABC):
    """A controller, a Lyapunov function ``V`` and its level ``rho``, for every mode by its configuration.

    In a mode whose configuration is ``c``, the claim is that from ``{x : V(x, c) <= rho(c)}`` the closed loop stays
    there and ``V`` falls. ``rho`` is learned from roll-outs: an estimate, not a proof. ``margin`` is what calibration
    on configurations that were not trained on takes off its logarithm.

    Attributes
    ----------
    margin
        Scalar, zero before calibration.

    References
    ----------
    Meng, Fan (2023). Hybrid systems neural control with region-of-attraction planner. L4DC; arXiv:2303.10327.
    """

    system: ClassVar[str]
    """Name in `rlstab.policies.roa.policy.MODELS`."""
    state_size: ClassVar[int]
    configuration_size: ClassVar[int]
    control_size: ClassVar[int]

    margin: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("margin", torch.zeros(()))

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Keyword arguments, as JSON values, from which a model of the same shape is made."""

    @abstractmethod
    def read(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """State ``(n, state_size)`` and configuration ``(n, configuration_size)``, from the environment's observations.

        Both in physical units.
        """

    @abstractmethod
    def control(self, x: Tensor, configuration: Tensor) -> Tensor:
        """Controls ``(n, control_size)`` in physical units, within their limits."""

    @abstractmethod
    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        """``V``, ``(n,)``, zero at the mode's reference and not negative."""

    @abstractmethod
    def log_level(self, configuration: Tensor) -> Tensor:
        """Logarithm of the estimated level, without the margin, ``(n,)``."""

    def level(self, configuration: Tensor) -> Tensor:
        """``rho``, ``(n,)``: the estimate less its margin, positive."""
        return (self.log_level(configuration) - self.margin).exp()

    def to_action(self, control: Tensor) -> Tensor:
        """The environment's action for controls; the same numbers unless a model says otherwise."""
        return control

    def forward(self, observation: Tensor) -> Tensor:
        """Actions ``(n, ...)`` for the environment's observations."""
        return self.to_action(self.control(*self.read(observation)))


def perceptron(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of these ``sizes`` with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
