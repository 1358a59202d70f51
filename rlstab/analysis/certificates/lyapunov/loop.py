"""The closed loop a proof is about: plant, controller within its limits, and Lyapunov function, with their hashes."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlstab.analysis.certificates.certificate import digest
from rlstab.analysis.certificates.lyapunov.network_hash import network_sha256
from rlstab.analysis.certificates.lyapunov.tensor_like import TensorLike
from rlstab.envs.plants import Plant
from rlstab.errors import UserError

SINGLE = 2.0**-24 * (1.0 + 1e-9)
"""Largest relative error of rounding to float32."""


@dataclass(frozen=True, eq=False)
class ClosedLoop:
    """``x+ = f(x, clamp(u(x)))`` and ``V(x)``, in float64, for tensors and for bounds alike.

    Controllers that are deployed read and command in float32. With ``single_precision`` the loop is that one: of a
    tensor, state and command are rounded on their way into and out of the controller; bounds hold for every error of up
    to half a unit in the last place, whatever a machine does with ties.

    Parameters
    ----------
    plant
        The model.
    controller
        Module ``(..., n) -> (..., m)``; copied, converted to float64, and clamped to the plant's limits.
    lyapunov
        Module ``(..., n) -> (...,)``; copied likewise.
    box
        Half-widths of the box ``B`` in which everything is claimed; the plant's own if not given.
    single_precision
        Whether the controller reads states, and gives commands, in float32.

    Raises
    ------
    UserError
        Shapes do not fit, a weight is not finite, or the box is not positive.
    """

    plant: Plant
    controller: nn.Module
    lyapunov: nn.Module
    box: Sequence[float] | None = None
    single_precision: bool = False

    def __post_init__(self) -> None:
        for name in ("controller", "lyapunov"):
            module = copy.deepcopy(getattr(self, name)).to("cpu", torch.float64).eval().requires_grad_(False)
            if not all(bool(value.isfinite().all()) for value in module.state_dict().values()):
                raise UserError(f"the {name} has weights that are NaN or infinite")
            object.__setattr__(self, name, module)
        box = tuple(float(value) for value in (self.plant.box if self.box is None else self.box))
        if len(box) != self.plant.state_size or not all(np.isfinite(value) and value > 0.0 for value in box):
            raise UserError(f"the box must be {self.plant.state_size} positive half-widths, got {box}")
        object.__setattr__(self, "box", box)
        two = torch.zeros(2, self.plant.state_size, dtype=torch.float64)
        try:
            shapes = tuple(self.controller(two).shape), tuple(self.lyapunov(two).shape)
        except RuntimeError as error:
            raise UserError(
                f"the networks do not take states of {self.plant.id}, {self.plant.state_size} numbers"
            ) from error
        if shapes != ((2, self.plant.control_size), (2,)):
            raise UserError(
                f"{self.plant.id} needs a controller with {self.plant.control_size} outputs and a Lyapunov function "
                f"with one value a state, got shapes {shapes[0]} and {shapes[1]} for two states"
            )

    @property
    def half_widths(self) -> Tensor:
        """Of ``B``, ``(n,)``."""
        assert self.box is not None
        return torch.tensor(self.box, dtype=torch.float64)

    @property
    def volume(self) -> float:
        """Of ``B``."""
        return float(np.prod(2.0 * self.half_widths.numpy()))

    def control(self, state: Any) -> Any:
        """Within the plant's limits: ``(..., n)`` to ``(..., m)``."""
        low, high = (
            torch.tensor(limit, dtype=torch.float64) for limit in (self.plant.control_low, self.plant.control_high)
        )
        if not self.single_precision:
            return torch.clamp(self.controller(state), low, high)
        # Limited once more by the plant: that moves no command away from the one before rounding.
        return torch.clamp(_rounded(torch.clamp(self.controller(_rounded(state)), low, high)), low, high)

    def step(self, state: Any) -> Any:
        """The next state, ``(..., n)``, of states or of bounds on states."""
        control = self.control(state).unbind(-1)
        return torch.stack(tuple(self.plant.step(state.unbind(-1), control)), -1)

    def value(self, state: Any) -> Any:
        """``V``, ``(...,)``."""
        return self.lyapunov(state)

    def inside(self, state: Tensor) -> Tensor:
        """Whether states are in ``B``, ``(...,)``; NaN is not."""
        return (state.abs() <= self.half_widths).all(-1)

    def sample(self, count: int, seed: int) -> Tensor:
        """States uniform in ``B``, ``(count, n)``."""
        generator = torch.Generator().manual_seed(seed)
        share = torch.rand(count, self.plant.state_size, generator=generator, dtype=torch.float64)
        return (2.0 * share - 1.0) * self.half_widths

    def constants(self) -> dict[str, float]:
        """Of the plant, by name."""
        return self.plant.constants()

    def network_sha256(self) -> str:
        """Of the structure and all numbers of controller and Lyapunov function."""
        return network_sha256(self.controller, self.lyapunov)

    def set_sha256(self, *numbers: float | NDArray[np.float64]) -> str:
        """Of plant, constants and box, and of what else describes the set."""
        constants = self.constants()
        names = hashlib.sha256("/".join([self.plant.id, *constants]).encode()).hexdigest()
        precision = float(self.single_precision)
        numeric = digest(np.array(list(constants.values())), self.half_widths.numpy(), precision, *numbers)
        return hashlib.sha256((names + numeric).encode()).hexdigest()


def _rounded(quantity: Any) -> Any:
    return quantity.rounded(SINGLE) if isinstance(quantity, TensorLike) else quantity.float().double()
