"""The planner's mode model without networks: exact hops, a linear controller from tables, ``V`` a sum of squares.

What stands beside the networks in comparisons, to tell what they add.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from torch import Tensor

from rlstab.controllers.roa.levels import decreasing, measured_level
from rlstab.controllers.roa.pogobot import domain
from rlstab.controllers.roa.pogobot.deadbeat import LIMITS, solve_deadbeat
from rlstab.envs.hybrid.corridor import flat
from rlstab.envs.hybrid.pogobot import GRAVITY, hop
from rlstab.policies.roa.pogobot import PredictedHop

FloatArray = NDArray[np.float64]
_SPEEDS, _HEIGHTS, _STARTS = 13, 13, 300
_PROBE = np.array([1e-3, 1e-3, 1e-4, 1.0])


@dataclass(frozen=True)
class _Tables:
    """By speed and height of the reference."""

    law: RegularGridInterpolator
    """Control at the reference, and the gain: ``(2 + 4)`` numbers."""
    level: RegularGridInterpolator


class HandmadeModel:
    """A `ModeModel` of hand-made parts.

    The controller is ``u*(c) - K(c) (s - c)`` with the control ``u*`` that repeats the reference and the deadbeat gain
    ``K = B^-1 A`` of the exact map there, tabulated over references and clipped; ``V = |s - c|^2 / 2`` in units of
    2 m/s and 1.5 m; the level of each entry of the table is measured as those of the networks are; hops are exact.
    Nothing carries gradients, so that only the sampling planner can use it.

    Parameters
    ----------
    seed
        Of the starts from which levels are measured.
    """

    def __init__(self, seed: int = 0) -> None:
        limits = zip(*domain.REFERENCE, (_SPEEDS, _HEIGHTS), strict=True)
        axes = tuple(np.linspace(low, high, count) for low, high, count in limits)
        references = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
        repeats = solve_deadbeat(references, references)
        law = np.concatenate([repeats, _gains(references, repeats).reshape(-1, 4)], 1)
        shape = (_SPEEDS, _HEIGHTS)
        nothing = RegularGridInterpolator(axes, np.zeros(shape))
        self._tables = _Tables(RegularGridInterpolator(axes, law.reshape(*shape, 6)), nothing)
        levels = self._levels(np.random.default_rng(seed), references)
        self._tables = _Tables(self._tables.law, RegularGridInterpolator(axes, levels.reshape(shape)))

    def control(self, x: Tensor, configuration: Tensor) -> Tensor:
        """See `ModeModel.control`."""
        return torch.as_tensor(self._control(_array(x), _array(configuration)), dtype=x.dtype)

    def predict(self, x: Tensor, control: Tensor) -> PredictedHop:
        """See `ModeModel.predict`."""
        return exact_hop(x, control)

    def value(self, x: Tensor, configuration: Tensor) -> Tensor:
        """See `ModeModel.value`."""
        return 0.5 * ((x - configuration) / x.new_tensor([2.0, 1.5])).square().sum(-1)

    def level(self, configuration: Tensor) -> Tensor:
        """See `ModeModel.level`."""
        return torch.as_tensor(self._tables.level(_array(configuration)), dtype=configuration.dtype)

    def _control(self, x: FloatArray, c: FloatArray) -> FloatArray:
        law = self._tables.law(c)
        gains = law[:, 2:].reshape(-1, 2, 2)
        return np.clip(law[:, :2] - (gains @ (x - c)[..., None])[..., 0], -LIMITS, LIMITS)

    def _levels(self, rng: np.random.Generator, references: FloatArray) -> FloatArray:
        n = len(references)
        c = np.repeat(references, _STARTS, 0)
        apices = domain.draw_around(rng, references, _STARTS).reshape(-1, 2)
        values, alive = [self._value(apices, c)], np.ones(len(c), bool)
        for _ in range(3):
            apices, _, _, failed = domain.take_hops(apices, self._control(apices, c))
            alive = alive & ~failed & (apices[:, 1] >= domain.LOWEST)
            apices = np.where(alive[:, None], apices, c)
            values.append(np.where(alive, self._value(apices, c), np.inf))
        course = np.stack(values)
        stable = decreasing(course, domain.ALPHA, domain.SLACK)
        level, _ = measured_level(course[0].reshape(n, -1), stable.reshape(n, -1), ignored=domain.IGNORED)
        on_rim = self._value(domain.rim(references), references[:, None]).min(1)
        return np.minimum(level, on_rim)

    @staticmethod
    def _value(x: FloatArray, c: FloatArray) -> FloatArray:
        return 0.5 * (((x - c) / [2.0, 1.5]) ** 2).sum(-1)


def exact_hop(x: Tensor, control: Tensor) -> PredictedHop:
    """Hops over level ground as they are, without gradients; one that fails ends on the floor."""
    (xdot, y), (angle, force) = _array(x).T, _array(control).T
    n = len(xdot)
    taken = hop(np.zeros(n), xdot, y, angle, force, flat(n))
    sine = np.clip(taken.liftoff[:, 0] - taken.liftoff[:, 4], -1.0, 1.0)
    parts = (
        taken.x,
        taken.xdot,
        np.where(taken.failed, 0.0, taken.y),
        -taken.touchdown[:, 3] / GRAVITY,
        np.where(taken.failed, 0.0, taken.liftoff[:, 3] / GRAVITY),
        taken.touchdown[:, 4],
        np.arcsin(sine),
    )
    return PredictedHop(*(torch.as_tensor(part, dtype=x.dtype) for part in parts))


def _gains(references: FloatArray, repeats: FloatArray) -> FloatArray:
    """``B^-1 A`` of the exact apex map, ``(n, 2, 2)``."""
    at = np.concatenate([references, repeats], 1)
    columns = []
    for index, probe in enumerate(_PROBE):
        ends = []
        for sign in (1.0, -1.0):
            moved = at.copy()
            moved[:, index] += sign * probe
            ends.append(domain.take_hops(moved[:, :2], moved[:, 2:])[0])
        columns.append((ends[0] - ends[1]) / (2.0 * probe))
    slopes = np.stack(columns, -1)
    return np.linalg.solve(slopes[:, :, 2:], slopes[:, :, :2])


def _array(tensor: Tensor) -> FloatArray:
    return tensor.detach().double().numpy()
