"""A force that somebody decides at every control step: a learned disturber, an attack, a viewer's hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from rlstab.envs.disturbance.interface import Disturbance, EnvView
from rlstab.envs.disturbance.ranges import check_bounds
from rlstab.envs.disturbance.wrench import Frame, WrenchEffect, check_frame
from rlstab.envs.physics.interface import FloatArray
from rlstab.errors import UserError

AXES: dict[str, list[int]] = {"line": [0], "sagittal": [0, 2], "horizontal": [0, 1], "space": [0, 1, 2]}


@dataclass(frozen=True)
class DecidedForce(Disturbance):
    """A force at a body's centre of mass, nothing until `DecidedForceEffect.push` says what.

    Parameters
    ----------
    body
        Name of the body.
    max_force
        Newtons; a longer force is shortened to it.
    directions
        ``"line"``: along x. ``"sagittal"``: x and z, for planar robots. ``"horizontal"``: x and y. ``"space"``: all.
    frame
        ``"world"``, or ``"body"``: turned with the body.

    Raises
    ------
    UserError
        A value is out of range.
    """

    kind: ClassVar[str] = "decided_force"

    body: str
    max_force: float
    directions: Literal["line", "sagittal", "horizontal", "space"] = "space"
    frame: Frame = "world"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("max_force", self.max_force, 0.0, fixed=True)
        check_frame(self.frame)
        if self.directions not in AXES:
            raise UserError(f"directions are one of {', '.join(AXES)}, not '{self.directions}'")

    @property
    def fields(self) -> tuple[str, ...]:
        """See `Disturbance.fields`."""
        return ("xmat",) if self.frame == "body" else ()

    @property
    def stream(self) -> str:
        """See `Disturbance.stream`."""
        return f"{self.kind}/{self.body}"

    def attach(self, view: EnvView) -> DecidedForceEffect:
        """See `Disturbance.attach`."""
        return DecidedForceEffect(self, view)


class DecidedForceEffect(WrenchEffect):
    """The force on one batch of worlds."""

    def __init__(self, force: DecidedForce, view: EnvView) -> None:
        super().__init__(force.body, force.frame, view, force.stream)
        self.axes = AXES[force.directions]
        self.max_force = float(force.max_force)

    @property
    def channels(self) -> int:
        """Components that can be decided."""
        return len(self.axes)

    def push(self, force: FloatArray, limit: float | None = None) -> FloatArray:
        """Decide the force of the coming control steps.

        Parameters
        ----------
        force
            ``(num_envs, channels)``, newtons.
        limit
            Newtons, at most ``max_force``; default: that.

        Returns
        -------
        array
            The force as it will act, shortened to the limit.
        """
        limit = self.max_force if limit is None else min(limit, self.max_force)
        norms = np.linalg.norm(force, axis=1, keepdims=True)
        applied = force * np.minimum(1.0, limit / np.maximum(norms, 1e-300))
        self.value[:, self.axes] = applied
        return applied
