"""Networks of the car: gains and a Lyapunov matrix by friction and speed, and what a linear controller misses."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rlstab.policies.roa.model import RoaModel, perceptron

STARTS = (1.0, 1.5, 0.4, 2.0, 1.2, 1.5, 0.25)
"""Half-widths of the box of error states in which a mode may begin: m, m, rad, m/s, rad, rad/s, rad. The networks are
trained, and their level is measured, from there. A switch leaves the first, third and last two as they are, and drives
do not bring those farther."""
DOMAIN = (3.0, 3.0, 1.2, 4.0, 2.0, 6.0, 1.0)
"""Half-widths of the box in which ``V`` is defined, in the same units: a mode must not leave it."""
FRICTIONS = (0.1, 1.0)
"""Frictions trained on, relative to dry road."""
SPEEDS = (3.0, 30.0)
"""Speeds of the reference trained on, m/s."""

_STATES, _CONTROLS = 7, 2
_TRIANGLE = _STATES * (_STATES + 1) // 2
_FIRST_SPEED = 7  # of the environment's observation; the friction is two further on


class Tuned(NamedTuple):
    """The controllers of ``n`` modes."""

    scaled: Tensor
    """Friction and speed as the networks read them, ``(n, 2)``."""
    gain: Tensor
    """``K``, ``(n, 2, 7)``, in shares of the limit over shares of `STARTS`."""
    at_zero: Tensor
    """What the network of the state gives at zero, ``(n, 2)``."""


class CarModel(RoaModel):
    """``V = |Q(c) x|^2 / 2`` and ``u = clamp(-K(c) x + limit (n(x, c) - n(0, c)))``, with ``c`` friction and speed.

    ``Q`` is triangular with a positive diagonal, so that ``V`` is positive but at zero, and ``u`` is zero there.

    Parameters
    ----------
    hidden_sizes
        Hidden layers of the networks that read the configuration.
    state_sizes
        Hidden layers of ``n``, which is evaluated at every step.
    limit
        Of both controls: steering rate in rad/s, acceleration in m/s^2.

    Notes
    -----
    The published controller is ``0.7 clamp(-K x) + 0.3 limit tanh(n)``, which is not zero at the reference.
    """

    system: ClassVar[str] = "car"
    state_size: ClassVar[int] = _STATES
    configuration_size: ClassVar[int] = 2
    control_size: ClassVar[int] = _CONTROLS

    starts: Tensor
    _to_square: Tensor

    def __init__(
        self, hidden_sizes: tuple[int, ...] = (128, 128), state_sizes: tuple[int, ...] = (64, 64), limit: float = 8.0
    ) -> None:
        super().__init__()
        self.hidden_sizes, self.state_sizes, self.limit = hidden_sizes, state_sizes, limit
        size = self.configuration_size
        self.gain_network = perceptron((size, *hidden_sizes, _CONTROLS * _STATES))
        self.factor_network = perceptron((size, *hidden_sizes, _TRIANGLE))
        self.level_network = perceptron((size, *hidden_sizes, 1))
        self.state_network = perceptron((_STATES + _CONTROLS + size, *state_sizes, _CONTROLS))
        with torch.no_grad():
            # Training begins from the linear controller.
            for parameter in self.state_network[-1].parameters():
                parameter.zero_()
        self.register_buffer("starts", torch.tensor(STARTS), persistent=False)
        rows, columns = torch.triu_indices(_STATES, _STATES, 1)
        square = torch.zeros(_TRIANGLE - _STATES, _STATES * _STATES)
        square[torch.arange(len(rows)), rows * _STATES + columns] = 1.0
        self.register_buffer("_to_square", square, persistent=False)

    def settings(self) -> dict[str, Any]:
        """See `RoaModel.settings`."""
        return {"hidden_sizes": self.hidden_sizes, "state_sizes": self.state_sizes, "limit": self.limit}

    def read(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """See `RoaModel.read`."""
        return observation[:, :_STATES], observation[:, [_FIRST_SPEED + 2, _FIRST_SPEED]]

    def control(self, x: Tensor, configuration: Tensor) -> Tensor:
        """See `RoaModel.control`."""
        return self.steer(x, self.tune(configuration))

    def tune(self, configuration: Tensor) -> Tuned:
        """What `steer` needs to know of a mode, once for as long as it lasts."""
        scaled = _scaled(configuration)
        # Not by len(): an export must not take it for the one size of a batch.
        zero = torch.zeros_like(scaled[:, :1]).expand(-1, _STATES + _CONTROLS)
        gain = _computed(self.gain_network, scaled).reshape(-1, _CONTROLS, _STATES)
        return Tuned(scaled, gain, _computed(self.state_network, torch.cat([zero, scaled], 1)))

    def steer(self, x: Tensor, tuned: Tuned) -> Tensor:
        """Controls ``(n, 2)`` in states ``(n, 7)`` of modes that `tune` was told of."""
        shares = x / self.starts
        linear = -(tuned.gain * shares[:, None]).sum(2)
        further = _computed(self.state_network, torch.cat([shares, linear, tuned.scaled], 1)) - tuned.at_zero
        return self.limit * (linear + further).clamp(-1.0, 1.0)

    def gain(self, configuration: Tensor) -> Tensor:
        """``K``, ``(n, 2, 7)``."""
        return self.limit * self.tune(configuration).gain / self.starts

    def factor(self, configuration: Tensor) -> Tensor:
        """``Q``, ``(n, 7, 7)``, upper triangular."""
        numbers = _computed(self.factor_network, _scaled(configuration))
        beside = (numbers[:, _STATES:] @ self._to_square).reshape(-1, _STATES, _STATES)
        unit = torch.eye(_STATES, dtype=numbers.dtype, device=numbers.device)
        return numbers[:, :_STATES].exp()[:, :, None] * (unit + beside) / self.starts

    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        """See `RoaModel.value`."""
        return quadratic(self.factor(configuration), x)

    def forward(self, observation: Tensor) -> Tensor:
        """See `RoaModel.forward`; in float64, as large parts of the control may cancel, and exports must agree."""
        return super().forward(observation.double()).to(observation.dtype)

    def log_level(self, configuration: Tensor) -> Tensor:
        """See `RoaModel.log_level`."""
        return _computed(self.level_network, _scaled(configuration))[:, 0]


def quadratic(factor: Tensor, x: Tensor) -> Tensor:
    """``|Q x|^2 / 2``, ``(...)``, of ``Q (..., 7, 7)`` and ``x (..., 7)``."""
    return 0.5 * (factor * x[..., None, :]).sum(-1).square().sum(-1)


def _computed(network: nn.Sequential, inputs: Tensor) -> Tensor:
    """Output of a network, in the precision of its inputs."""
    for layer in network:
        if isinstance(layer, nn.Linear):
            weights = (layer.weight.to(inputs.dtype), layer.bias.to(inputs.dtype))
            inputs = nn.functional.linear(inputs, *weights)
        else:
            inputs = layer(inputs)
    return inputs


def _scaled(configuration: Tensor) -> Tensor:
    """Logarithms of friction and speed, each from -1 to 1 over what is trained on; beyond, the nearest that is.

    So that an observation which makes no sense, such as a speed of zero, gives a number still.
    """
    parts = []
    for values, (low, high) in zip(configuration.unbind(1), (FRICTIONS, SPEEDS), strict=True):
        middle, half = 0.5 * math.log(low * high), 0.5 * math.log(high / low)
        parts.append((values.clamp(low, high).log() - middle) / half)
    return torch.stack(parts, 1)
