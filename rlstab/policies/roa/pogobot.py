"""Networks of the hopper: what a hop does, a controller of one hop, a Lyapunov function of apices, and its level."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlstab.policies.roa.model import RoaModel

GRAVITY, LEG = 10.0, 1.0
"""m/s^2 and m; the benchmark's, see `rlstab.envs.hybrid.pogobot`."""
_UNITS = (2.0, 1.5)
"""m/s and m: errors are measured in these."""
_STRETCH, _SKEW = math.log(2.0), 0.5
"""Limits of ``Q``."""
_TINY = 2.0**-20
_RISES = 1e-3
"""m that an apex is at least above lift-off: the square root's slope is infinite at zero."""


@dataclass(frozen=True)
class PredictedHop:
    """A hop as the stance network sees it; every field ``(n,)``."""

    dx: Tensor
    """From this apex to the next, m."""
    xdot: Tensor
    """Speed at the next apex, m/s."""
    y: Tensor
    """Its height above the floor that the foot stood on, m."""
    falling: Tensor
    """Seconds from the apex to touchdown."""
    rising: Tensor
    """Seconds from lift-off to the next apex."""
    foot: Tensor
    """Place of the foot in stance, m from the first apex."""
    lifted: Tensor
    """Leg angle at lift-off, rad: the body is ``sin`` of it ahead of the foot and ``cos`` of it above."""


class PogobotModel(RoaModel):
    """Everything for one mode: a reference apex above the floor that the foot will stand on.

    State: speed (m/s) and height (m above that floor) at the apex. Configuration: those of the reference. Control: leg
    angle at touchdown (rad, foot ahead where positive) and extra force in compression (N, positive takes energy).

    ``V = |Q e|^2 / 2 + 0.01 |e|`` with ``e`` the error in units of 2 m/s and 1.5 m, and ``Q`` upper triangular
    with a diagonal between 1/2 and 2 and one entry between -1/2 and 1/2 beside it, all three from a network of the
    configuration. Without those limits training finds a ``V`` that looks away from what the controller is bad at: one
    of the height alone.

    Parameters
    ----------
    hidden_sizes
        Units of each hidden layer of the stance, controller and Lyapunov networks.
    largest_angle, largest_force
        Limits of the controls, rad and N: what the environment's actions are shares of.

    References
    ----------
    Meng, Fan (2023), arXiv:2303.10327. There one ReLU network maps apex to apex; here flights are in closed form, the
    network has only the stance to learn, and is smooth (SiLU): together that leaves about half the error.
    """

    system = "pogobot"
    state_size = 2
    configuration_size = 2
    control_size = 2

    def __init__(
        self, hidden_sizes: tuple[int, ...] = (64, 64, 64), largest_angle: float = 0.5, largest_force: float = 5000.0
    ) -> None:
        super().__init__()
        self.hidden_sizes = tuple(hidden_sizes)
        self.largest_angle, self.largest_force = float(largest_angle), float(largest_force)
        self.register_buffer("limits", torch.tensor([self.largest_angle, self.largest_force]), persistent=False)
        self.stance = _smooth((4, *hidden_sizes, 3))
        self.actor = _smooth((4, *hidden_sizes, 2))
        self.shape = _smooth((2, *hidden_sizes, 3))
        self.depth = _smooth((2, 64, 64, 1))

    limits: Tensor

    def settings(self) -> dict[str, Any]:
        """See `RoaModel.settings`."""
        return {
            "hidden_sizes": self.hidden_sizes,
            "largest_angle": self.largest_angle,
            "largest_force": self.largest_force,
        }

    def read(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Take speed, height and the present segment's reference: its speed, and the height well off floor and ceiling.

        The height is that of `rlstab.envs.hybrid.corridor.target_height`.
        """
        floor, ceiling = observation[:, 8], observation[:, 9]
        height = torch.minimum(torch.maximum(floor + 1.4, 0.6 * ceiling + 0.4 * floor), ceiling) - floor
        return observation[:, 1:3], torch.stack([observation[:, 10], height], -1)

    def control(self, x: Tensor, configuration: Tensor) -> Tensor:
        """See `RoaModel.control`."""
        inputs = torch.cat([_standard(x), _standard(configuration)], -1)
        return self.limits.to(x.dtype) * torch.tanh(self.actor(inputs))

    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        """See `RoaModel.value`."""
        error = (x - configuration) / x.new_tensor(_UNITS)
        raw = self.bend(configuration)
        stretch = torch.exp(_STRETCH * raw[:, :2])
        bent = torch.stack(
            [stretch[:, 0] * error[:, 0] + _SKEW * raw[:, 2] * error[:, 1], stretch[:, 1] * error[:, 1]], -1
        )
        # The root of a sum of squares has no slope at zero; this one is zero there, exactly: _TINY is a power of two.
        distance = (error.square().sum(-1) + _TINY**2).sqrt() - _TINY
        return 0.5 * bent.square().sum(-1) + 0.01 * distance

    def bend(self, configuration: Tensor) -> Tensor:
        """How far ``V`` is from round, ``(n, 3)`` between -1 and 1: both stretches and the skew of ``Q``."""
        return torch.tanh(self.shape(_standard(configuration)))

    def log_level(self, configuration: Tensor) -> Tensor:
        """See `RoaModel.log_level`."""
        return self.depth(_standard(configuration))[:, 0]

    def to_action(self, control: Tensor) -> Tensor:
        """Shares of the limits."""
        return control / self.limits

    def predict(self, x: Tensor, control: Tensor) -> PredictedHop:
        """Take a hop as the network sees it, from states ``(n, 2)`` with controls ``(n, 2)``.

        A stance that fails is not foreseen: the network has only seen those that end in a lift-off.
        """
        xdot, y = x.unbind(-1)
        angle, force = control.unbind(-1)
        drop = (y - LEG * angle.cos()).clamp(min=0.0)
        fast = (2.0 * GRAVITY * drop + 1e-6).sqrt()
        force_share, angle_share = force / self.limits[1], angle / self.limits[0]
        inputs = torch.stack([0.5 * (xdot - 1.5), 0.4 * (fast - 4.5), 2.0 * angle_share, 2.0 * force_share], -1)
        out = self.stance(inputs)
        speed, height, lifted = xdot + 2.0 * out[:, 0], y + out[:, 1], 0.3 * out[:, 2]
        falling = fast / GRAVITY
        rising = (2.0 / GRAVITY * (height - LEG * lifted.cos()).clamp(min=_RISES)).sqrt()
        foot = xdot * falling + LEG * angle.sin()
        return PredictedHop(foot + LEG * lifted.sin() + speed * rising, speed, height, falling, rising, foot, lifted)


def _standard(apex: Tensor) -> Tensor:
    """Speeds and heights in units and around the middle of what corridors have."""
    return torch.stack([0.6 * (apex[..., 0] - 1.5), 1.2 * (apex[..., 1] - 2.2)], -1)


def _smooth(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of these ``sizes`` with SiLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
