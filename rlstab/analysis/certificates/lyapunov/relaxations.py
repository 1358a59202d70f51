"""A line below and a line above a function of one variable: what turns bounds of ``z`` into bounds of ``f(z)``.

Each function takes the ends ``(low, high)`` of intervals, tensors of one shape, and returns `Lines` with
``slope_low z + offset_low <= f(z) <= slope_high z + offset_high`` for every ``z`` between them, and the range of ``f``
there. Slopes may be any number; offsets are the exact extremes of ``f(z) - slope z``, so that a slope that is rounded
makes bounds looser and not wrong. What rounding does to the offsets themselves is covered where the lines are used
(`rlstab.analysis.certificates.lyapunov.bounds`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_TINY = 1e-300
_FARTHEST = 1e8
"""Argument of a sine up to which its extremes are found to 1e-15 in spite of rounding."""


class Lines(NamedTuple):
    """Two lines and a range, each of the shape of the interval's ends."""

    slope_low: Tensor
    offset_low: Tensor
    slope_high: Tensor
    offset_high: Tensor
    low: Tensor
    high: Tensor


def leaky_relu(low: Tensor, high: Tensor, leak: float) -> Lines:
    """``max(z, leak z)`` with ``0 <= leak <= 1``: the chord above; below, the slope 1 where ``high >= -low``."""
    at_low, at_high = torch.where(low >= 0, low, leak * low), torch.where(high >= 0, high, leak * high)
    above = chord(low, high, at_low, at_high, leak, 1.0)
    offset_above = torch.maximum(at_low - above * low, at_high - above * high)
    # Of two numbers alone, torch.where would make float32, in which a leak of 0.01 is less than that.
    below = torch.where((low >= 0) | ((high > 0) & (high >= -low)), torch.ones_like(low), leak)
    return Lines(below, torch.zeros_like(low), above, offset_above, at_low, at_high)


def absolute(low: Tensor, high: Tensor) -> Lines:
    """``|z|``: the chord above; below, the sign of what weighs more."""
    at_low, at_high = low.abs(), high.abs()
    above = chord(low, high, at_low, at_high, -1.0, 1.0)
    offset_above = torch.maximum(at_low - above * low, at_high - above * high)
    below = torch.where((low >= 0) | ((high > 0) & (high >= -low)), torch.ones_like(low), -1.0)
    least = torch.where((low <= 0) & (high >= 0), 0.0, torch.minimum(at_low, at_high))
    return Lines(below, torch.zeros_like(low), above, offset_above, least, torch.maximum(at_low, at_high))


def clamp(low: Tensor, high: Tensor, lowest: Tensor, highest: Tensor) -> Lines:
    """``min(max(z, lowest), highest)``: one of the two lines of the convex hull on each side.

    Tighter than the sum of two rectified units, and than one after the other.
    """
    slope_high, offset_high = _clamp_above(low, high, lowest, highest)
    slope_low, offset_below = _clamp_above(-high, -low, -highest, -lowest)
    low, high = torch.clamp(low, lowest, highest), torch.clamp(high, lowest, highest)
    return Lines(slope_low, -offset_below, slope_high, offset_high, low, high)


def _clamp_above(low: Tensor, high: Tensor, lowest: Tensor, highest: Tensor) -> tuple[Tensor, Tensor]:
    start, end = torch.clamp(low, lowest, highest), torch.clamp(high, lowest, highest)
    # Up to the knot where the function becomes flat, or to the end of the interval.
    knot = torch.minimum(high, highest)
    slope = chord(low, knot, start, end, 0.0, 1.0)
    # The hull has a second, flat line: better where more of the interval lies beyond the knot.
    slope = torch.where((high - knot > knot - low) | (low >= highest), 0.0, slope)
    offset = torch.maximum(start - slope * low, end - slope * high)
    for corner in (lowest, highest):
        inside = (corner > low) & (corner < high)
        offset = torch.where(inside, torch.maximum(offset, corner - slope * corner), offset)
    return slope, offset


def square(low: Tensor, high: Tensor) -> Lines:
    """``z^2``: the tangent in the middle below, the chord above."""
    middle = 0.5 * (low + high)
    slope = low + high
    at_low, at_high = low * low, high * high
    least = torch.where((low <= 0) & (high >= 0), 0.0, torch.minimum(at_low, at_high))
    offset_high = torch.maximum(at_low - slope * low, at_high - slope * high)
    # z^2 - 2 m z >= -m^2 for the slope 2 m.
    return Lines(2 * middle, -(middle * middle), slope, offset_high, least, torch.maximum(at_low, at_high))


def reciprocal(low: Tensor, high: Tensor) -> Lines:
    """``1/z`` for positive ``z``: the tangent in the middle below, the chord above."""
    middle = 0.5 * (low + high)
    at_low, at_high = 1.0 / low, 1.0 / high
    slope_low, slope_high = -1.0 / (middle * middle), -at_low * at_high
    # min (1/z + s z) is 2 sqrt(s), whatever the rounding of s.
    offset_high = torch.maximum(at_low - slope_high * low, at_high - slope_high * high)
    return Lines(slope_low, 2.0 * (-slope_low).sqrt(), slope_high, offset_high, at_high, at_low)


def sine(low: Tensor, high: Tensor) -> Lines:
    """``sin z``: the chord's slope, offsets from the ends and the points where ``cos z`` is that slope."""
    slope = chord(low, high, low.sin(), high.sin(), -1.0, 1.0)
    # At acos(slope) the second derivative is negative, at minus that positive.
    turning = slope.acos()
    _, above = _extremes(low, high, slope, torch.sin, _repeated(low, high, turning, 2 * math.pi))
    below, _ = _extremes(low, high, slope, torch.sin, _repeated(low, high, -turning, 2 * math.pi))
    quarter, flat = torch.full_like(low, 0.5 * math.pi), torch.zeros_like(low)
    _, high_value = _extremes(low, high, flat, torch.sin, _repeated(low, high, quarter, 2 * math.pi))
    low_value, _ = _extremes(low, high, flat, torch.sin, _repeated(low, high, -quarter, 2 * math.pi))
    # Far out turning points are rounded away: nothing is known there but that sines are between -1 and 1.
    known = torch.maximum(low.abs(), high.abs()) <= _FARTHEST
    one = torch.ones_like(low)
    slope = torch.where(known, slope, 0.0)
    below, above = torch.where(known, below, -one), torch.where(known, above, one)
    low_value = torch.where(known, low_value, -one).clamp(-1.0, 1.0)
    high_value = torch.where(known, high_value, one).clamp(-1.0, 1.0)
    return Lines(slope, below, slope, above, low_value, high_value)


def tanh(low: Tensor, high: Tensor) -> Lines:
    """``tanh z``: the chord's slope, offsets from the ends and the points where ``1 - tanh^2 z`` is that slope."""
    slope = chord(low, high, low.tanh(), high.tanh(), 0.0, 1.0)
    turning = torch.atanh((1.0 - slope).clamp(min=0.0).sqrt().clamp(max=1.0 - 1e-16))
    _, above = _extremes(low, high, slope, torch.tanh, (turning,))
    below, _ = _extremes(low, high, slope, torch.tanh, (-turning,))
    return Lines(slope, below, slope, above, low.tanh(), high.tanh())


def smooth(low: Tensor, high: Tensor, value: Callable[[Tensor], Tensor], curvature: float) -> Lines:
    """Any function with ``|h''| <= curvature``: the chord, moved by ``curvature (high - low)^2 / 8`` to both sides."""
    at_low, at_high, width = value(low), value(high), high - low
    slope = (at_high - at_low) / width.clamp(min=_TINY)
    slope = torch.where(width > 1e-9 * (low.abs() + high.abs()) + 1e-150, slope, 0.0)
    # What is left after the slope is taken off has the same curvature, and its chord lies between its ends.
    sag = curvature * width.square() / 8
    first, second = at_low - slope * low, at_high - slope * high
    below, above = torch.minimum(first, second) - sag, torch.maximum(first, second) + sag
    half = 0.5 * (at_high - at_low).abs()
    spread = half + sag
    middle = 0.5 * (at_low + at_high)
    return Lines(slope, below, slope, above, middle - spread, middle + spread)


def chord(low: Tensor, high: Tensor, at_low: Tensor, at_high: Tensor, least: float, most: float) -> Tensor:
    """Slope between two points, within the slopes the function has; ``least`` for an interval without width."""
    width = high - low
    slope = (at_high - at_low) / width.clamp(min=_TINY)
    return torch.where(width > 0, slope, least).clamp(least, most)


def _repeated(low: Tensor, high: Tensor, base: Tensor, period: float) -> tuple[Tensor, Tensor]:
    """First and last of ``base + k period`` in the interval; beyond it where there is none."""
    first = base + period * torch.ceil((low - base) / period)
    last = base + period * torch.floor((high - base) / period)
    return first, last


def _extremes(
    low: Tensor, high: Tensor, slope: Tensor, value: Callable[[Tensor], Tensor], points: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Smallest and largest of ``f(z) - slope z`` at the ends and at those points that lie in the interval."""
    first, second = value(low) - slope * low, value(high) - slope * high
    least, most = torch.minimum(first, second), torch.maximum(first, second)
    for point in points:
        point = torch.minimum(torch.maximum(point, low), high)
        at = value(point) - slope * point
        least, most = torch.minimum(least, at), torch.maximum(most, at)
    return least, most
