"""The car for the learner of the region-of-attraction method; see `rlstab.controllers.roa.learner.System`."""

from __future__ import annotations

from collections.abc import Sequence

from rlstab.controllers.roa.car import stages
from rlstab.controllers.roa.car.closed_loop import DECREASE, roll_out, sample
from rlstab.controllers.roa.config import RoaConfig
from rlstab.controllers.roa.stages import Stage
from rlstab.errors import UserError
from rlstab.policies.roa.car import CarModel

__all__ = ["make_model", "make_stages", "roll_out", "sample"]

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
