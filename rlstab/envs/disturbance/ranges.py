"""Numbers that are fixed or drawn every episode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np

from rlstab.errors import UserError


@dataclass(frozen=True)
class Range:
    """A number drawn anew for every world and episode.

    Parameters
    ----------
    low, high
        Bounds, both included; ``low <= high``.
    scale
        ``"linear"``: uniform between the bounds. ``"log"``: uniform in the logarithm, for factors; ``low > 0``.

    Raises
    ------
    UserError
        The bounds are in the wrong order, not finite, or not positive on a log scale.
    """

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            message = f"a range needs finite bounds with low <= high, got [{self.low}, {self.high}]"
            raise UserError(message)
        if self.scale not in ("linear", "log"):
            message = f"a range's scale is 'linear' or 'log', not '{self.scale}'"
            raise UserError(message)
        if self.scale == "log" and self.low <= 0:
            message = f"a range on a log scale needs low > 0, got {self.low}"
            raise UserError(message)

    def draw(self, rng: np.random.Generator) -> float:
        """One number between the bounds."""
        if self.scale == "log":
            return float(np.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return float(rng.uniform(self.low, self.high))

    def draw_integer(self, rng: np.random.Generator) -> int:
        """One integer between the bounds, both included."""
        return int(rng.integers(math.ceil(self.low), math.floor(self.high), endpoint=True))


Scalar = float | Range
"""A fixed number, or the range it is drawn from every episode."""


def draw(value: Scalar, rng: np.random.Generator) -> float:
    """Resolve ``value`` for one episode."""
    return value.draw(rng) if isinstance(value, Range) else float(value)


def draw_integer(value: Scalar, rng: np.random.Generator) -> int:
    """Resolve ``value``, a count, for one episode."""
    return value.draw_integer(rng) if isinstance(value, Range) else int(value)


def bounds(value: Scalar) -> tuple[float, float]:
    """Smallest and largest number that ``value`` can give."""
    return (value.low, value.high) if isinstance(value, Range) else (float(value), float(value))


def check_bounds(
    name: str,
    value: Scalar,
    low: float,
    high: float = math.inf,
    *,
    infinite: bool = False,
    fixed: bool = False,
    whole: bool = False,
) -> None:
    """Refuse a value or range outside ``[low, high]``.

    Parameters
    ----------
    name
        What it is called in the message.
    value
        Number or range.
    low, high
        Bounds, both allowed.
    infinite
        Whether infinity is allowed.
    fixed
        Whether a range is not.
    whole
        Whether it must be a whole number, or a range between two.

    Raises
    ------
    UserError
        Some number of ``value`` is outside, not a number, or of the wrong type.
    """
    if not (isinstance(value, Real) or (isinstance(value, Range) and not fixed)) or isinstance(value, bool):
        message = f"{name} must be a number{'' if fixed else ' or a Range'}, got {value!r}"
        raise UserError(message)
    smallest, largest = bounds(value)
    if math.isnan(largest) or (math.isinf(largest) and not infinite):
        message = f"{name} must be finite, got {value}"
        raise UserError(message)
    if whole and any(bound != round(bound) for bound in (smallest, largest) if math.isfinite(bound)):
        message = f"{name} must be whole, got {value}"
        raise UserError(message)
    if not (low <= smallest and largest <= high):
        limit = f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
        message = f"{name} must be {limit}, got {value}"
        raise UserError(message)


def as_vector(name: str, values: Any) -> tuple[Scalar, Scalar, Scalar]:
    """Check a vector of three numbers or ranges.

    Raises
    ------
    UserError
        There are not three, or one is neither a finite number nor a range.
    """
    components = tuple(values) if isinstance(values, list | tuple | np.ndarray) else ()
    valid = all(isinstance(item, Range) or (isinstance(item, Real) and math.isfinite(item)) for item in components)
    if len(components) != 3 or not valid:
        message = f"{name} needs three numbers or ranges (x, y, z), got {values}"
        raise UserError(message)
    x, y, z = (item if isinstance(item, Range) else float(item) for item in components)
    return x, y, z
