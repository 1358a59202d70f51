"""Where each robot is pushed, along which axes, and what forces on it are measured in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlstab.envs.disturbance.decided import AXES, DecidedForce
from rlstab.envs.linear.task import LinearQuadratic
from rlstab.envs.physics.linear_engine import BODY
from rlstab.envs.registry import make_task, runs_natively
from rlstab.envs.task import Task
from rlstab.errors import UserError

Directions = Literal["line", "sagittal", "horizontal", "space"]

_BODIES: dict[str, tuple[str, Directions]] = {
    "Hopper": ("torso", "sagittal"),
    "Walker2d": ("torso", "sagittal"),
    "HalfCheetah": ("torso", "sagittal"),
    "Ant": ("torso", "space"),
    "InvertedPendulum": ("pole", "line"),
    "Go1": ("trunk", "space"),
}


@dataclass(frozen=True)
class PushPoint:
    """A body that can be pushed at its centre of mass.

    Parameters
    ----------
    body
        Its name.
    directions
        See `rlstab.envs.disturbance.DecidedForce`.
    mass
        Of the whole robot, kilograms.
    weight
        Of the whole robot, newtons: the unit of forces, so that robots compare. 1 for linear systems.
    """

    body: str
    directions: Directions
    mass: float
    weight: float

    @property
    def channels(self) -> int:
        """Components of a force."""
        return len(AXES[self.directions])

    def force(self, max_force: float) -> DecidedForce:
        """Force of at most ``max_force`` newtons, to be decided step by step."""
        return DecidedForce(self.body, max_force, self.directions)


def push_point(env_id: Any, env_kwargs: dict[str, Any] | None = None, body: str = "") -> PushPoint:
    """Find where an environment is pushed.

    Parameters
    ----------
    env_id
        Id of a native environment.
    env_kwargs
        Its constructor arguments.
    body
        Body to push. Empty: the one that suits the robot.

    Raises
    ------
    UserError
        It is not native, or it is not known which of its bodies to push.
    """
    if not isinstance(env_id, str) or not runs_natively(env_id, env_kwargs):
        raise UserError(f"only bodies of native environments can be pushed; {env_id} is none")
    task = make_task(env_id, **(env_kwargs or {}))
    if isinstance(task, LinearQuadratic):
        return PushPoint(body or BODY, "line", 1.0, 1.0)
    known = _known(task)
    if known is None and not body:
        raise UserError(f"it is not known which body of {task.id} to push: name it with --body")
    usual, directions = known or ("", "space")
    model = task.make_physics(1, (), 1).model
    mass = float(model.body_mass.sum())
    return PushPoint(body or usual, directions, mass, mass * float(np.linalg.norm(model.opt.gravity)))


def _known(task: Task) -> tuple[str, Directions] | None:
    name = task.id.removeprefix("rlstab/")
    return next((place for robot, place in _BODIES.items() if name.startswith(robot)), None)
