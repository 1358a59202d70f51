"""Bounds of functions over many boxes of states at once, by running the function's own code on them.

`AffineBounds` stands in for a tensor: torch modules and plants that are made of the operations below run on it
unchanged, and what comes out holds for every state of each box. Every quantity ``q`` carries two affine functions of
the state and a range::

    lower[0] + lower[1:] . e  <=  q(x)  <=  upper[0] + upper[1:] . e,      low <= q(x) <= high,

where ``x = centre + radius * e`` with ``|e_i| <= 1``. This is forward linear bound propagation; for few states it costs
what backward propagation does and needs no graph.

Rounding. float64 rounds to nearest here, so after each operation the bounds are moved apart by ``1e-12`` times the
size of all that entered it, sums of absolute values. A sum of ``k`` products loses at most ``(k + 2) 2^-53`` of that
size, and the elementary functions a few units in the last place; so what comes out is a bound in real arithmetic for
operations of less than 5000 terms.

References
----------
Zhang et al. (2018). Efficient neural network robustness certification with general activation functions (CROWN).
NeurIPS; arXiv:1811.00866. Xu et al. (2020). Automatic perturbation analysis (LiRPA). NeurIPS; arXiv:2002.12920.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlstab.analysis.certificates.lyapunov import relaxations
from rlstab.analysis.certificates.lyapunov.relaxations import Lines
from rlstab.analysis.certificates.lyapunov.tensor_like import TensorLike, last_axis, last_index
from rlstab.envs.plants import SmoothFunction
from rlstab.errors import UserError

ROUNDING = 1e-12
"""Of the size of what enters an operation, by which its result is widened."""


class AffineBounds(TensorLike):
    """Bounds of one quantity over ``N`` boxes; behaves as a tensor of shape ``(N, *shape)`` in arithmetic.

    Parameters
    ----------
    lower, upper
        ``(1 + n, *shape, N)``: constant and slopes in the box's own coordinates. Boxes come last, so that every
        operation runs along memory whatever the shape.
    low, high
        ``(*shape, N)``: a range known otherwise; the narrower of it and that of the affine functions is kept.
    """

    def __init__(self, lower: Tensor, upper: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> None:
        self.lower, self.upper = lower, upper
        down, up = lower[1:].abs().sum(0), upper[1:].abs().sum(0)
        self.size = torch.maximum(lower[0].abs() + down, upper[0].abs() + up)
        """Of the affine functions: the largest absolute value over the box, ``(*shape, N)``."""
        slack = ROUNDING * self.size
        found_low, found_high = lower[0] - down - slack, upper[0] + up + slack
        self.low = found_low if low is None else torch.maximum(found_low, low)
        self.high = found_high if high is None else torch.minimum(found_high, high)

    @classmethod
    def of_boxes(cls, low: Tensor, high: Tensor) -> AffineBounds:
        """The state itself over boxes.

        Parameters
        ----------
        low, high
            ``(N, n)``, float64: opposite corners.
        """
        centre = 0.5 * (low + high)
        # Both corners are within the radius however the centre was rounded.
        radius = torch.maximum(high - centre, centre - low) * (1.0 + 1e-15)
        both = torch.cat([centre.T[None], torch.diag_embed(radius).permute(1, 2, 0)]).contiguous()
        return cls(both, both, low.T.contiguous(), high.T.contiguous())

    def select(self, boxes: Tensor) -> AffineBounds:
        """Only these of the boxes, indices ``(k,)``."""
        return AffineBounds(*(piece.index_select(-1, boxes) for piece in _pieces(self)))

    @property
    def shape(self) -> torch.Size:
        """As of the tensor that this stands for: ``(N, *shape)``."""
        return torch.Size((self.low.shape[-1], *self.low.shape[:-1]))

    # Affine operations.

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> AffineBounds:
        """``weight q + bias`` for a quantity of shape ``(N, k)`` and ``weight (m, k)``."""
        weight = weight.detach().double()
        # Middle and half of the gap between the bounds: two products of matrices instead of four.
        middle = 0.5 * weight @ torch.cat([self.lower + self.upper, (self.low + self.high)[None]])
        gap = 0.5 * weight.abs() @ torch.cat([self.upper - self.lower, (self.high - self.low)[None]])
        size = weight.abs() @ self.size
        # From here on the last entry is the range.
        lower, upper = middle - gap, middle + gap
        if bias is not None:
            bias = bias.detach().double()[:, None]
            for found in (lower, upper):
                found[0] += bias
                found[-1] += bias
            size = size + bias.abs()
        return _widened(lower[:-1], upper[:-1], size, lower[-1], upper[-1])

    def __add__(self, other: Any) -> AffineBounds:
        if isinstance(other, AffineBounds):
            lower, upper, size = self.lower + other.lower, self.upper + other.upper, self.size + other.size
            return _widened(lower, upper, size, self.low + other.low, self.high + other.high)
        other = _constant(other)
        lower, upper = self.lower.clone(), self.upper.clone()
        lower[0] += other
        upper[0] += other
        return _widened(lower, upper, self.size + other.abs(), self.low + other, self.high + other)

    def __neg__(self) -> AffineBounds:
        return AffineBounds(-self.upper, -self.lower, -self.high, -self.low)

    def __mul__(self, other: Any) -> AffineBounds:
        if isinstance(other, AffineBounds):
            return _product(self, other)
        other = _constant(other)
        positive, negative = other.clamp(min=0.0), other.clamp(max=0.0)
        lower = self.lower * positive + self.upper * negative
        upper = self.upper * positive + self.lower * negative
        low, high = self.low * positive + self.high * negative, self.high * positive + self.low * negative
        return _widened(lower, upper, self.size * other.abs(), low, high)

    def sum(self, dim: int = -1) -> AffineBounds:
        """Over the last axis."""
        last_axis(dim)
        lower, upper, size = self.lower.sum(-2), self.upper.sum(-2), self.size.sum(-2)
        return _widened(lower, upper, size, self.low.sum(-2), self.high.sum(-2))

    # Axes.

    def __getitem__(self, index: tuple[Any, Any]) -> AffineBounds:
        place = (..., last_index(index), slice(None))
        return AffineBounds(*(piece[place] for piece in _pieces(self)))

    @staticmethod
    def stack(parts: Sequence[AffineBounds], dim: int = -1) -> AffineBounds:
        """The inverse of `unbind`."""
        last_axis(dim)
        return AffineBounds(*(torch.stack(pieces, -2) for pieces in zip(*map(_pieces, parts), strict=True)))

    # Functions of one variable.

    def leaky_relu(self, negative_slope: float = 0.01) -> AffineBounds:
        """``max(q, leak q)``."""
        if not 0.0 <= negative_slope <= 1.0:
            raise UserError(f"bounds of a leaky ReLU need a slope between 0 and 1, got {negative_slope}")
        return self._mapped(relaxations.leaky_relu(self.low, self.high, negative_slope))

    def clamp(self, min: Any = None, max: Any = None) -> AffineBounds:
        """``q`` within constant limits."""
        lowest, highest = _constant(-torch.inf if min is None else min), _constant(torch.inf if max is None else max)
        return self._mapped(relaxations.clamp(self.low, self.high, lowest, highest))

    def abs(self) -> AffineBounds:
        """``|q|``."""
        return self._mapped(relaxations.absolute(self.low, self.high))

    def square(self) -> AffineBounds:
        """``q^2``; tighter than ``q * q``."""
        return self._mapped(relaxations.square(self.low, self.high))

    def sin(self) -> AffineBounds:
        """``sin q``."""
        return self._mapped(relaxations.sine(self.low, self.high))

    def tanh(self) -> AffineBounds:
        """``tanh q``."""
        return self._mapped(relaxations.tanh(self.low, self.high))

    def smooth(self, function: SmoothFunction) -> AffineBounds:
        """Any function whose curvature is bounded."""
        return self._mapped(relaxations.smooth(self.low, self.high, function.value, function.curvature))

    def rounded(self, relative: float) -> AffineBounds:
        """See `TensorLike.rounded`; numbers below the smallest normal float32 lose up to ``1e-44`` besides."""
        slack = relative * torch.maximum(self.low.abs(), self.high.abs()) + 1e-44
        lower, upper = self.lower.clone(), self.upper.clone()
        lower[0] -= slack
        upper[0] += slack
        return _widened(lower, upper, self.size + slack, self.low - slack, self.high + slack)

    def reciprocal(self) -> AffineBounds:
        """``1 / q`` of what is positive on every box."""
        if not bool((self.low > 0.0).all()):
            raise UserError("bounds of a quotient need a divisor that is positive on every box")
        return self._mapped(relaxations.reciprocal(self.low, self.high))

    def _mapped(self, lines: Lines) -> AffineBounds:
        lower = _chosen(lines.slope_low, self.lower, self.upper)
        upper = _chosen(lines.slope_high, self.upper, self.lower)
        lower[0] += lines.offset_low
        upper[0] += lines.offset_high
        steepest = torch.maximum(lines.slope_low.abs(), lines.slope_high.abs())
        offsets = torch.maximum(lines.offset_low.abs(), lines.offset_high.abs())
        # Offsets are differences of the function and of slope times argument.
        values = torch.maximum(lines.low.abs(), lines.high.abs())
        return _widened(lower, upper, 2.0 * steepest * self.size + offsets + values, lines.low, lines.high)


def _widened(lower: Tensor, upper: Tensor, size: Tensor, low: Tensor, high: Tensor) -> AffineBounds:
    """Move results apart by what rounding may have cost; ``size`` is that of all that entered."""
    slack = ROUNDING * size
    lower[0] -= slack
    upper[0] += slack
    return AffineBounds(lower, upper, low - slack, high + slack)


def _product(left: AffineBounds, right: AffineBounds) -> AffineBounds:
    """McCormick's planes, the mean of the two on each side: it touches the product in the middle of the ranges."""
    a, b = 0.5 * (left.low + left.high), 0.5 * (right.low + right.high)
    # (p - l)(q - l') >= 0 and (u - p)(u' - q) >= 0 add up to 2 p q >= ...; the others bound from above.
    same = 0.5 * (left.low * right.low + left.high * right.high)
    crossed = 0.5 * (left.low * right.high + left.high * right.low)
    lower = _chosen(b, left.lower, left.upper) + _chosen(a, right.lower, right.upper)
    upper = _chosen(b, left.upper, left.lower) + _chosen(a, right.upper, right.lower)
    lower[0] -= same
    upper[0] -= crossed
    corners = torch.stack([left.low * right.low, left.low * right.high, left.high * right.low, left.high * right.high])
    largest = torch.maximum(left.low.abs(), left.high.abs()) * torch.maximum(right.low.abs(), right.high.abs())
    size = b.abs() * left.size + a.abs() * right.size + 4.0 * largest
    return _widened(lower, upper, size, corners.amin(0), corners.amax(0))


def _chosen(slope: Tensor, when_positive: Tensor, when_negative: Tensor) -> Tensor:
    """``slope`` times the affine function that keeps the inequality."""
    return torch.where(slope >= 0.0, when_positive, when_negative) * slope


def _pieces(bounds: AffineBounds) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return bounds.lower, bounds.upper, bounds.low, bounds.high


def _constant(value: Any) -> Tensor:
    """A number, or one for each entry of the last axis, which is the one before the boxes' here."""
    constant = value.detach().double() if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)
    return constant[..., None] if constant.ndim else constant
