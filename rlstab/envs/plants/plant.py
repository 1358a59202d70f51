"""What a plant is: constants, limits, a box of states, and one step written with the methods that tensors have."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from rlstab.errors import UserError

_LEAST, _LARGEST = 1e-9, 1e6
"""Sizes of constants, in SI units, for which products of a few of them are far from what overflows in float32."""

Quantity: TypeAlias = Any
"""One state or control for a batch: a torch tensor, or bounds on one. Plants use only ``+ - * /`` and the methods
``sin cos square abs clamp`` that both have, so that a proof is about the very code that is simulated and trained on."""


@dataclass(frozen=True)
class SmoothFunction:
    """A twice differentiable function of one variable, with a bound of its curvature, which is what bounds need.

    Parameters
    ----------
    value, slope
        The function and its derivative, on tensors.
    curvature
        ``max |h''|`` over every argument that may occur.
    """

    value: Callable[[Quantity], Quantity]
    slope: Callable[[Quantity], Quantity]
    curvature: float

    def __call__(self, argument: Quantity) -> Quantity:
        """The value, or its bounds where the argument is known by bounds."""
        bounded = getattr(argument, "smooth", None)
        return self.value(argument) if bounded is None else bounded(self)


@dataclass(frozen=True, kw_only=True)
class Plant(ABC):
    """A discrete-time system ``x+ = f(x, u)`` with the equilibrium at ``x = 0``; all fields are its constants.

    Subclasses give the box in which states are meant to stay and the limits of the control as fields of the names
    below, so that each is part of what a certificate is about.
    """

    id: ClassVar[str]
    state_names: ClassVar[tuple[str, ...]]
    state_units: ClassVar[tuple[str, ...]]
    control_names: ClassVar[tuple[str, ...]]

    box: tuple[float, ...]
    """Half-widths of the box around 0, in the units of the state."""
    control_low: tuple[float, ...]
    control_high: tuple[float, ...]
    dt: float
    """Time step, s."""

    def __post_init__(self) -> None:
        for name, value in self.constants().items():
            if not math.isfinite(value):
                raise UserError(f"{self.id}: {name} must be finite, got {value}")
            if value != 0.0 and not _LEAST <= abs(value) <= _LARGEST:
                raise UserError(
                    f"{self.id}: {name} must be 0 or of a size from {_LEAST:g} to {_LARGEST:g}, got {value}"
                )
        if len(self.box) != self.state_size or min(self.box) <= 0.0:
            raise UserError(f"{self.id}: box must be {self.state_size} positive half-widths, got {self.box}")
        limits = (self.control_low, self.control_high)
        if any(len(limit) != self.control_size for limit in limits):
            raise UserError(f"{self.id}: control limits must have {self.control_size} entries, got {limits}")
        if any(low >= high for low, high in zip(*limits, strict=True)):
            raise UserError(f"{self.id}: control_low must be below control_high, got {limits}")
        if not self.dt > 0.0:
            raise UserError(f"{self.id}: dt must be positive, got {self.dt}")

    @property
    def state_size(self) -> int:
        """``n``."""
        return len(self.state_names)

    @property
    def control_size(self) -> int:
        """``m``."""
        return len(self.control_names)

    @property
    def equilibrium_control(self) -> tuple[float, ...]:
        """What holds the state at 0."""
        return (0.0,) * self.control_size

    @abstractmethod
    def rates(self, state: Sequence[Quantity], control: Sequence[Quantity]) -> tuple[Quantity, ...]:
        """Time derivatives of the state in continuous time."""

    def step(self, state: Sequence[Quantity], control: Sequence[Quantity]) -> tuple[Quantity, ...]:
        """One time step: the explicit Euler method, unless a plant says otherwise.

        Parameters
        ----------
        state, control
            ``n`` and ``m`` quantities of one shape.

        Returns
        -------
        tuple
            ``n`` quantities: the next state.
        """
        return tuple(value + self.dt * rate for value, rate in zip(state, self.rates(state, control), strict=True))

    def constants(self) -> dict[str, float]:
        """All fields by name, those with several numbers as ``box/0``, ``box/1`` and so on."""
        found: dict[str, float] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                found.update({f"{item.name}/{index}": float(entry) for index, entry in enumerate(value)})
            else:
                found[item.name] = float(value)
        return found
