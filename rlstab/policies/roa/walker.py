"""Networks of the compass walker: a Lyapunov function of the gaits, whose controller is the CLF-QP."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from rlstab.envs.hybrid.walker_gaits import gait_torque
from rlstab.policies.roa.model import RoaModel, perceptron

SLOWEST, WIDEST = 0.04, 0.18
"""Gait angles (rad) between which there are gaits that walk: limits of the configurations."""
_UNITS = (0.05, 0.1, 0.25, 0.5)
_FLOOR = 1e-3


class WalkerModel(RoaModel):
    """Controller, Lyapunov function and level of the walker's gaits.

    State ``(n, 4)`` as in `rlstab.envs.hybrid.walker.STATES`, configuration ``(n, 1)``: the gait angle (rad). The
    controller is the gait's CLF-QP and has no weights. ``V`` is the squared distance of features
    ``|phi(s, c, e) - phi(s, c, 0)|^2``, and a thousandth of ``|e|^2``: ``e`` is the state's distance to the gait's
    orbit at the same ``q1`` (in units of (0.05, 0.1, 0.25, 0.5)), ``s`` where on the orbit that is, from 1 after an
    impact to -1 before the next. It is zero on the orbit and nowhere else, and trained so that 1 is the boundary of the
    region of attraction: `log_level` is zero.

    Parameters
    ----------
    hidden_sizes
        Width of each hidden layer of ``phi``.
    features
        Outputs of ``phi``.
    gaits, samples
        Size of the table of orbits, which `set_orbits` fills.
    """

    system: ClassVar[str] = "walker"
    state_size: ClassVar[int] = 4
    configuration_size: ClassVar[int] = 1
    control_size: ClassVar[int] = 1

    starts: Tensor
    """``(gaits,)``: ``q1`` after an impact of each orbit."""
    orbits: Tensor
    """``(gaits, samples, 3)``: ``q2, q1d, q2d`` at equal distances of ``q1``, from before an impact to after one."""
    units: Tensor

    def __init__(
        self, hidden_sizes: tuple[int, ...] = (64, 64, 64), features: int = 16, gaits: int = 29, samples: int = 41
    ) -> None:
        super().__init__()
        self._settings = {"hidden_sizes": hidden_sizes, "features": features, "gaits": gaits, "samples": samples}
        self.phi = perceptron((6, *hidden_sizes, features))
        self.register_buffer("starts", torch.ones(gaits))
        self.register_buffer("orbits", torch.zeros(gaits, samples, 3))
        self.register_buffer("units", torch.tensor(_UNITS))

    def settings(self) -> dict[str, Any]:
        """See `RoaModel.settings`."""
        return dict(self._settings)

    def set_orbits(self, starts: Tensor, orbits: Tensor) -> None:
        """Fill the table, for gait angles at equal distances from `SLOWEST` to `WIDEST`."""
        self.starts.copy_(starts)
        self.orbits.copy_(orbits)

    def read(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """See `RoaModel.read`."""
        return observation[:, :4], observation[:, 4:5]

    def control(self, x: Tensor, configuration: Tensor) -> Tensor:
        """See `RoaModel.control`."""
        return gait_torque(x, configuration[:, 0])[:, None]

    def nearest(self, x: Tensor, configuration: Tensor) -> tuple[Tensor, Tensor]:
        """Where on its gait's orbit each walker would be.

        Returns
        -------
        share, reference
            ``(n,)`` from -1 to 1, and ``(n, 4)``: the state of the orbit with the same ``q1``, or its nearest end.
        """
        gaits, samples = self.orbits.shape[:2]
        row = ((configuration[:, 0] - SLOWEST) / (WIDEST - SLOWEST)).clamp(0.0, 1.0) * (gaits - 1)
        low, part = _split(row, gaits)
        start = torch.lerp(self.starts[low], self.starts[low + 1], part)
        share = (x[:, 0] / start).clamp(-1.0, 1.0)
        column, within = _split((share + 1.0) / 2.0 * (samples - 1), samples)
        corners = [
            torch.lerp(self.orbits[gait, column], self.orbits[gait, column + 1], within[:, None])
            for gait in (low, low + 1)
        ]
        rest = torch.lerp(corners[0], corners[1], part[:, None])
        return share, torch.cat([(share * start)[:, None], rest], 1)

    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        """See `RoaModel.value`."""
        share, reference = self.nearest(x, configuration)
        away = (x - reference) / self.units
        place = torch.stack([share, (configuration[:, 0] - 0.11) / 0.07], 1)
        there, here = self.phi(torch.cat([place, away], 1)), self.phi(torch.cat([place, torch.zeros_like(away)], 1))
        return (there - here).square().sum(1) + _FLOOR * away.square().sum(1)

    def log_level(self, configuration: Tensor) -> Tensor:
        """See `RoaModel.log_level`."""
        return torch.zeros_like(configuration[:, 0])


def _split(place: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Index of the grid point below, and the share of the way to the next one."""
    low = place.detach().floor().clamp(0, count - 2).long()
    return low, place - low
