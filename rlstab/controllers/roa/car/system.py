"""The car for the learner of the region-of-attraction method; see `rlstab.controllers.roa.learner.System`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rlstab.controllers.roa.car import closed_loop, stages
from rlstab.controllers.roa.car.closed_loop import DECREASE, roll_out, sample
from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.learner import Claim, RollOut
from rlstab.controllers.roa.stages import Stage
from rlstab.errors import UserError
from rlstab.policies.roa.car import FRICTIONS, SPEEDS, CarModel

__all__ = ["claim", "make_model", "make_stages", "roll_out", "sample", "stable"]

claim = Claim(
    steps=closed_loop.STEPS,
    drawn=f"friction {FRICTIONS[0]:g} to {FRICTIONS[1]:g} and speed {SPEEDS[0]:g} to {SPEEDS[1]:g} m/s as in training, "
    "the error even over the box of starts",
    holds=f"for a second the error stays in the domain, and V falls over every {closed_loop.SPAN} steps by "
    f"{DECREASE:g} a step on average, but for a slack near 0",
)

LIMIT = 8.0
"""Of both controls, rad/s and m/s^2, as in the benchmark's evaluation; its learning environment allows 12."""


def make_model(config: RoaConfig) -> CarModel:
    """Its networks with fresh weights. The environment's ``max_control`` limits controls where it was set.

    Raises
    ------
    UserError
        ``max_control`` is not a positive number.
    """
    limit = config.env_kwargs.get("max_control", LIMIT)
    if isinstance(limit, (bool, str)) or not 0.0 < limit < float("inf"):
        raise UserError(f"max_control must be a positive number, got {limit!r}")
    sizes = {"hidden_sizes": config.hidden_sizes, "state_sizes": config.hidden_sizes} if config.hidden_sizes else {}
    return CarModel(**sizes, limit=float(limit))


def make_stages(model: CarModel, config: RoaConfig) -> Sequence[Stage]:
    """How they are trained."""
    return stages.make_stages(model, DECREASE if config.decrease is None else config.decrease, config.calibration)


def stable(loops: RollOut, configuration: Tensor) -> NDArray[np.bool_]:
    """See `rlstab.controllers.roa.learner.System.stable`."""
    del configuration
    return closed_loop.stable(loops.values)
