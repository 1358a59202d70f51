"""Where a robot is pushed, and what forces are measured in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlstab.controllers.hinf.config import HInfConfig
from rlstab.envs.disturbance import DecidedForce
from rlstab.envs.linear.task import LinearQuadratic
from rlstab.envs.physics.linear_engine import BODY
from rlstab.envs.registry import make_task, runs_natively
from rlstab.errors import UserError

Directions = Literal["line", "sagittal", "horizontal", "space"]

_BODIES: dict[str, tuple[str, Directions]] = {
    "Hopper": ("torso", "sagittal"),
    "Walker2d": ("torso", "sagittal"),
    "HalfCheetah": ("torso", "sagittal"),
    "Ant": ("torso", "space"),
    "InvertedPendulum": ("pole", "line"),
}


@dataclass(frozen=True)
class Push:
    """The force on an environment.

    Parameters
    ----------
    force
        Up to the longest one of the configuration.
    unit
        Newtons of one unit of force.
    """

    force: DecidedForce
    unit: float


def push_of(config: HInfConfig) -> Push:
    """Find where an environment is pushed, and in what units.

    Raises
    ------
    UserError
        It is not native, or it is not known which of its bodies to push.
    """
    if not runs_natively(config.env, config.env_kwargs):
        raise UserError(f"a disturber pushes bodies of native environments; {config.env} is none")
    task = make_task(config.env, **config.env_kwargs)
    if isinstance(task, LinearQuadratic):
        body, directions, weight = BODY, "line", 1.0
    else:
        known = next((v for name, v in _BODIES.items() if task.id.removeprefix("rlstab/").startswith(name)), None)
        if known is None and not config.body:
            raise UserError(f"it is not known which body of {task.id} to push: name it with --body")
        body, directions = known or ("", "space")
        model = task.make_physics(1, (), 1).model
        weight = float(model.body_mass.sum() * np.linalg.norm(model.opt.gravity))
    unit = config.force_unit if config.force_unit is not None else weight
    return Push(DecidedForce(config.body or body, config.max_force * unit, directions), unit)
