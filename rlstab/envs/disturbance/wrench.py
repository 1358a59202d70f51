"""Forces and torques on a body: pushes at a time, and random forces all along."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from rlstab.envs.disturbance.interface import Disturbance, Effect, EnvView
from rlstab.envs.disturbance.ranges import Scalar, as_vector, check_bounds, draw
from rlstab.envs.disturbance.streams import StreamEffect
from rlstab.envs.physics.interface import BoolArray, FloatArray, IntArray
from rlstab.envs.physics.model_parts import index_of
from rlstab.errors import UserError

Frame = Literal["world", "body"]


def check_frame(frame: str) -> None:
    """Refuse what is no frame of a wrench.

    Raises
    ------
    UserError
        It is neither ``"world"`` nor ``"body"``.
    """
    if frame not in ("world", "body"):
        message = f"a wrench's frame is 'world' or 'body', not '{frame}'"
        raise UserError(message)


@dataclass(frozen=True)
class ExternalWrench(Disturbance):
    """A push: one force and torque at a body's centre of mass, between two moments of the episode.

    It is held constant over each control step, so its impulse is ``force`` times ``duration_s`` rounded to whole
    control steps (at least one).

    Parameters
    ----------
    body
        Name of the body.
    force
        x, y, z in newtons; each a number or a `Range`.
    torque
        x, y, z in newton metres.
    frame
        ``"world"``, or ``"body"``: turned with the body.
    start_s
        Seconds after the episode's start.
    duration_s
        Seconds; infinite for a steady wrench.
    period_s
        Seconds after which the push comes again; ``None`` for a single one. Force and torque stay those of the
        episode.

    Raises
    ------
    UserError
        A value is out of range.
    """

    kind: ClassVar[str] = "external_wrench"

    body: str
    force: tuple[Scalar, Scalar, Scalar] = (0.0, 0.0, 0.0)
    torque: tuple[Scalar, Scalar, Scalar] = (0.0, 0.0, 0.0)
    frame: Frame = "world"
    start_s: Scalar = 0.0
    duration_s: Scalar = math.inf
    period_s: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "force", as_vector("force", self.force))
        object.__setattr__(self, "torque", as_vector("torque", self.torque))
        check_frame(self.frame)
        check_bounds("start_s", self.start_s, 0.0)
        check_bounds("duration_s", self.duration_s, 0.0, infinite=True)
        if self.period_s is not None:
            check_bounds("period_s", self.period_s, 1e-9, fixed=True)

    @property
    def fields(self) -> tuple[str, ...]:
        """See `Disturbance.fields`."""
        return ("xmat",) if self.frame == "body" else ()

    @property
    def stream(self) -> str:
        """See `Disturbance.stream`."""
        return f"{self.kind}/{self.body}"

    def attach(self, view: EnvView) -> Effect:
        """See `Disturbance.attach`."""
        return _PushEffect(self, view)


@dataclass(frozen=True)
class RandomForce(Disturbance):
    """A force of random direction at a body's centre of mass, drawn again every ``hold_steps`` control steps.

    The baseline of random forces: it is held over whole control steps, since one applied for a single short physics
    step of each control step has next to no impulse.

    Parameters
    ----------
    body
        Name of the body.
    magnitude
        Newtons; a `Range` is drawn at every redraw, not once an episode.
    directions
        ``"space"``: uniform over the sphere. ``"horizontal"``: over the circle in x and y. ``"sagittal"``: in x and z,
        for planar robots.
    hold_steps
        Control steps between redraws.
    probability
        Chance that a redraw gives a force rather than none.
    frame
        ``"world"`` or ``"body"``.

    Raises
    ------
    UserError
        A value is out of range.
    """

    kind: ClassVar[str] = "random_force"

    body: str
    magnitude: Scalar
    directions: Literal["space", "horizontal", "sagittal"] = "space"
    hold_steps: int = 1
    probability: float = 1.0
    frame: Frame = "world"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("magnitude", self.magnitude, 0.0)
        check_bounds("hold_steps", self.hold_steps, 1, fixed=True, whole=True)
        check_bounds("probability", self.probability, 0.0, 1.0, fixed=True)
        check_frame(self.frame)
        if self.directions not in _DIRECTIONS:
            message = f"directions are one of {', '.join(_DIRECTIONS)}, not '{self.directions}'"
            raise UserError(message)

    @property
    def fields(self) -> tuple[str, ...]:
        """See `Disturbance.fields`."""
        return ("xmat",) if self.frame == "body" else ()

    @property
    def stream(self) -> str:
        """See `Disturbance.stream`."""
        return f"{self.kind}/{self.body}"

    def attach(self, view: EnvView) -> Effect:
        """See `Disturbance.attach`."""
        return _RandomForceEffect(self, view)


class WrenchEffect(StreamEffect):
    """A wrench on one body; subclasses decide when it acts.

    ``value (num_envs, 6)``, force then torque in the effect's frame, may be overwritten between steps: that is how a
    learned disturber or a viewer's push button acts.
    """

    memory = ("value",)

    def __init__(self, body: str, frame: Frame, view: EnvView, purpose: str) -> None:
        super().__init__(view, purpose)
        self.body = index_of(view.model, "body", body)
        self.frame = frame
        self.value: FloatArray = np.zeros((view.num_envs, 6))

    def active(self) -> BoolArray:
        """Whether the wrench acts in the step about to be taken, ``(num_envs,)``."""
        return np.ones(self.view.num_envs, bool)

    def wrench(self) -> FloatArray | None:
        """See `Effect.wrench`."""
        active = self.active()
        if not active.any():
            return None
        wrench = self.value
        if self.frame == "body":
            xmat = self.view.physics.field("xmat")[:, self.body]
            wrench = np.hstack([_rotate(xmat, wrench[:, :3]), _rotate(xmat, wrench[:, 3:])])
        total = np.zeros((self.view.num_envs, self.view.model.nbody, 6))
        total[:, self.body] = np.where(active[:, None], wrench, 0.0)
        return total


class _PushEffect(WrenchEffect):
    memory = ("value", "first", "count")

    def __init__(self, push: ExternalWrench, view: EnvView) -> None:
        super().__init__(push.body, push.frame, view, push.stream)
        self.push = push
        self.first: FloatArray = np.zeros(view.num_envs)
        self.count: FloatArray = np.zeros(view.num_envs)

    def begin(self, worlds: IntArray) -> None:
        super().begin(worlds)
        push, dt = self.push, self.view.dt
        for world in worlds.tolist():
            rng = self.streams[world]
            self.value[world] = [draw(item, rng) for item in (*push.force, *push.torque)]
            self.first[world] = round(draw(push.start_s, rng) / dt)
            duration = draw(push.duration_s, rng)
            self.count[world] = duration if math.isinf(duration) else max(round(duration / dt), int(duration > 0))

    def active(self) -> BoolArray:
        since = self.view.elapsed_steps - self.first
        started = since >= 0
        if self.push.period_s is not None:
            since = since % max(round(self.push.period_s / self.view.dt), 1)
        return started & (since < self.count)


class _RandomForceEffect(WrenchEffect):
    def __init__(self, force: RandomForce, view: EnvView) -> None:
        super().__init__(force.body, force.frame, view, force.stream)
        self.force = force

    def wrench(self) -> FloatArray | None:
        for world in np.flatnonzero(self.view.elapsed_steps % self.force.hold_steps == 0).tolist():
            rng = self.streams[world]
            direction = _DIRECTIONS[self.force.directions](rng)
            magnitude = draw(self.force.magnitude, rng)
            self.value[world, :3] = direction * magnitude * (rng.random() < self.force.probability)
        return super().wrench()


def _rotate(xmat: FloatArray, vectors: FloatArray) -> FloatArray:
    """Turn body-frame ``vectors (n, 3)`` into the world frame by the bodies' rotation matrices ``xmat (n, 9)``."""
    return np.einsum("nij,nj->ni", xmat.reshape(-1, 3, 3), vectors)


def _space(rng: np.random.Generator) -> FloatArray:
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def _horizontal(rng: np.random.Generator) -> FloatArray:
    angle = rng.uniform(0.0, 2.0 * np.pi)
    return np.array([np.cos(angle), np.sin(angle), 0.0])


def _sagittal(rng: np.random.Generator) -> FloatArray:
    angle = rng.uniform(0.0, 2.0 * np.pi)
    return np.array([np.cos(angle), 0.0, np.sin(angle)])


_DIRECTIONS: dict[str, Callable[[np.random.Generator], FloatArray]] = {
    "space": _space,
    "horizontal": _horizontal,
    "sagittal": _sagittal,
}
