"""Interval Jacobians by running the function's own code: what a map's slopes are, anywhere in each box.

For a map that is continuous and piecewise smooth, ``F(x) - F(y) = J (x - y)`` where each row of ``J`` is one of the
map's (Clarke) derivatives somewhere between ``x`` and ``y``: Lebourg's mean value theorem. Kinks contribute all slopes
between those of their sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlstab.analysis.certificates.lyapunov.bounds import ROUNDING, AffineBounds
from rlstab.analysis.certificates.lyapunov.tensor_like import TensorLike, last_axis
from rlstab.envs.plants import SmoothFunction


class SlopeBounds(TensorLike):
    """A quantity with the range of its derivatives over ``N`` boxes of ``n`` states.

    Parameters
    ----------
    value
        Its bounds.
    low, high
        ``(n, *shape, N)``: smallest and largest of each derivative.
    """

    def __init__(self, value: AffineBounds, low: Tensor, high: Tensor) -> None:
        slack = ROUNDING * torch.maximum(low.abs(), high.abs())
        self.value, self.low, self.high = value, low - slack, high + slack

    @classmethod
    def of_boxes(cls, low: Tensor, high: Tensor) -> SlopeBounds:
        """The state itself over boxes with the corners ``low`` and ``high``, ``(N, n)`` each."""
        identity = torch.eye(low.shape[1], dtype=torch.float64)[..., None].repeat(1, 1, len(low))
        return cls(AffineBounds.of_boxes(low, high), identity, identity)

    @property
    def shape(self) -> torch.Size:
        """As of the tensor that this stands for: ``(N, *shape)``."""
        return self.value.shape

    def jacobian(self) -> tuple[Tensor, Tensor]:
        """Ends of the derivatives ``d q_i / d x_j`` of a vector: ``(N, k, n)`` twice."""
        return self.low.permute(2, 1, 0), self.high.permute(2, 1, 0)

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> SlopeBounds:
        """``weight q + bias``."""
        weight = weight.detach().double()
        middle, gap = 0.5 * weight @ (self.low + self.high), 0.5 * weight.abs() @ (self.high - self.low)
        slack = ROUNDING * (weight.abs() @ torch.maximum(self.low.abs(), self.high.abs()))
        return SlopeBounds(self.value.linear(weight, bias), middle - gap - slack, middle + gap + slack)

    def __add__(self, other: Any) -> SlopeBounds:
        if not isinstance(other, SlopeBounds):
            return SlopeBounds(self.value + other, self.low, self.high)
        slack = ROUNDING * (_largest(self) + _largest(other))
        return SlopeBounds(self.value + other.value, self.low + other.low - slack, self.high + other.high + slack)

    def __neg__(self) -> SlopeBounds:
        return SlopeBounds(-self.value, -self.high, -self.low)

    def __mul__(self, other: Any) -> SlopeBounds:
        if isinstance(other, SlopeBounds):
            first = _scaled(self, other.value.low, other.value.high)
            second = _scaled(other, self.value.low, self.value.high)
            slack = ROUNDING * (torch.maximum(*map(torch.abs, first)) + torch.maximum(*map(torch.abs, second)))
            return SlopeBounds(self.value * other.value, first[0] + second[0] - slack, first[1] + second[1] + slack)
        factor = other.detach().double() if isinstance(other, Tensor) else torch.tensor(other, dtype=torch.float64)
        factor = factor[..., None] if factor.ndim else factor
        return SlopeBounds(self.value * other, *_scaled(self, factor, factor))

    def reciprocal(self) -> SlopeBounds:
        """``1 / q``, whose slope is ``-1/q^2``."""
        value = self.value.reciprocal()
        return SlopeBounds(value, *_scaled(self, -value.high.square(), -value.low.square()))

    def sum(self, dim: int = -1) -> SlopeBounds:
        """Over the last axis."""
        last_axis(dim)
        slack = ROUNDING * _largest(self).sum(-2)
        return SlopeBounds(self.value.sum(), self.low.sum(-2) - slack, self.high.sum(-2) + slack)

    def __getitem__(self, index: tuple[Any, Any]) -> SlopeBounds:
        value = self.value[index]
        place = (..., index[1], slice(None))
        return SlopeBounds(value, self.low[place], self.high[place])

    @staticmethod
    def stack(parts: Sequence[SlopeBounds], dim: int = -1) -> SlopeBounds:
        """The inverse of `unbind`."""
        value = AffineBounds.stack([part.value for part in parts], dim)
        low, high = torch.stack([part.low for part in parts], -2), torch.stack([part.high for part in parts], -2)
        return SlopeBounds(value, low, high)

    def leaky_relu(self, negative_slope: float = 0.01) -> SlopeBounds:
        """``max(q, leak q)``."""
        value = self.value.leaky_relu(negative_slope)
        one = torch.ones_like(self.value.low)
        low = torch.where(self.value.low > 0.0, one, negative_slope)
        high = torch.where(self.value.high < 0.0, negative_slope, one)
        return SlopeBounds(value, *_scaled(self, low, high))

    def clamp(self, min: Any = None, max: Any = None) -> SlopeBounds:
        """``q`` within constant limits."""
        lowest, highest = (
            limit[..., None] if isinstance(limit, Tensor) and limit.ndim else limit
            for limit in (-torch.inf if min is None else min, torch.inf if max is None else max)
        )
        inside = (self.value.low > lowest) & (self.value.high < highest)
        outside = (self.value.high < lowest) | (self.value.low > highest)
        return SlopeBounds(self.value.clamp(min, max), *_scaled(self, inside.double(), (~outside).double()))

    def abs(self) -> SlopeBounds:
        """``|q|``."""
        one = torch.ones_like(self.value.low)
        low, high = torch.where(self.value.low > 0.0, one, -one), torch.where(self.value.high < 0.0, -one, one)
        return SlopeBounds(self.value.abs(), *_scaled(self, low, high))

    def square(self) -> SlopeBounds:
        """``q^2``."""
        return SlopeBounds(self.value.square(), *_scaled(self, 2.0 * self.value.low, 2.0 * self.value.high))

    def sin(self) -> SlopeBounds:
        """``sin q``, whose slope is ``cos q``."""
        slope = self.value.cos()
        return SlopeBounds(self.value.sin(), *_scaled(self, slope.low, slope.high))

    def rounded(self, relative: float) -> SlopeBounds:
        """See `TensorLike.rounded`: slopes from 0, where what is rounded is split into ``q - q(0)`` and ``q(0)``.

        ``d = e(x) q = e(x) (q - q(0)) + e(x) q(0)`` with ``|e| <= relative``. The first part adds to the slopes between
        the state and 0; the second is no slope, and is in the bounds of the value at 0.
        """
        slack = relative * _largest(self)
        return SlopeBounds(self.value.rounded(relative), self.low - slack, self.high + slack)

    def tanh(self) -> SlopeBounds:
        """``tanh q``, whose slope is ``1 - tanh^2 q``."""
        value = self.value.tanh()
        slope = 1.0 - value.square()
        return SlopeBounds(value, *_scaled(self, slope.low, slope.high))

    def smooth(self, function: SmoothFunction) -> SlopeBounds:
        """Any function: its slope in the middle, and what its curvature allows to both sides."""
        low, high = self.value.low, self.value.high
        middle, change = function.slope(0.5 * (low + high)), 0.5 * function.curvature * (high - low)
        slack = change + 1e-9 * (middle.abs() + change) + ROUNDING * (1.0 + function.curvature)
        return SlopeBounds(self.value.smooth(function), *_scaled(self, middle - slack, middle + slack))


def _largest(bounds: SlopeBounds) -> Tensor:
    return torch.maximum(bounds.low.abs(), bounds.high.abs())


def _scaled(bounds: SlopeBounds, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Product of the derivatives and a range ``(*shape, N)``; what rounding costs is added where they are used."""
    corners = torch.stack([bounds.low * low, bounds.low * high, bounds.high * low, bounds.high * high])
    return corners.amin(0), corners.amax(0)
