"""Late actions and late observations."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.disturbance.interface import Disturbance, Effect, EnvView
from rlstab.envs.disturbance.ranges import Scalar, bounds, check_bounds, draw_integer
from rlstab.envs.disturbance.streams import StreamEffect
from rlstab.envs.physics.interface import IntArray

Array = NDArray[Any]


@dataclass(frozen=True)
class _Delay(Disturbance):
    steps: Scalar = 1
    jitter: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("steps", self.steps, 0, 1000, whole=True)
        check_bounds("jitter", self.jitter, 0, 1000, fixed=True, whole=True)
        object.__setattr__(self, "jitter", int(self.jitter))

    @abstractmethod
    def attach(self, view: EnvView) -> Effect:
        """See `Disturbance.attach`."""


@dataclass(frozen=True)
class ActionDelay(_Delay):
    """Actions that reach the robot late. Until the first one arrives it gets zeros.

    Parameters
    ----------
    steps
        Control steps; a `Range` is drawn once an episode.
    jitter
        Extra steps, 0 to this, drawn anew at every step.

    Raises
    ------
    UserError
        A number is negative or not whole.
    """

    kind: ClassVar[str] = "action_delay"

    def attach(self, view: EnvView) -> Effect:
        """See `Disturbance.attach`."""
        return _ActionDelayEffect(self, view)


@dataclass(frozen=True)
class ObservationDelay(_Delay):
    """Observations that reach the policy late. Until it is outdated, the episode's first one is seen.

    Parameters
    ----------
    steps
        Control steps; a `Range` is drawn once an episode.
    jitter
        Extra steps, 0 to this, drawn anew at every step.

    Raises
    ------
    UserError
        A number is negative or not whole.
    """

    kind: ClassVar[str] = "observation_delay"

    def attach(self, view: EnvView) -> Effect:
        """See `Disturbance.attach`."""
        return _ObservationDelayEffect(self, view)


class _DelayEffect(StreamEffect):
    """A ring of the latest values for every world, written at one common position."""

    memory = ("delay", "ring", "position")

    def __init__(self, delay: _Delay, view: EnvView) -> None:
        super().__init__(view, delay.stream)
        self.spec = delay
        self.depth = int(bounds(delay.steps)[1]) + delay.jitter + 1
        self.delay: IntArray = np.zeros(view.num_envs, np.int64)
        self.position: Array = np.zeros((), np.int64)
        self.ring: Array | None = None

    def begin(self, worlds: IntArray) -> None:
        super().begin(worlds)
        for world in worlds.tolist():
            self.delay[world] = draw_integer(self.spec.steps, self.streams[world])

    def fill(self, values: Array, worlds: IntArray) -> None:
        """Make ``values (k, ...)`` all that ``worlds (k,)`` have ever had."""
        if self.ring is None:
            self.ring = np.zeros((self.view.num_envs, self.depth, *values.shape[1:]), values.dtype)
        self.ring[worlds] = values[:, None]

    def exchange(self, values: Array) -> Array:
        """Write ``values (num_envs, ...)``, read what is due now."""
        everyone = np.arange(self.view.num_envs)
        if self.ring is None:
            self.fill(np.zeros_like(values), everyone)
        ring: Any = self.ring
        self.position = (self.position + 1) % self.depth
        ring[:, self.position] = values
        delay = self.delay
        if self.spec.jitter:
            jitter = [self.streams[world].integers(0, self.spec.jitter, endpoint=True) for world in everyone.tolist()]
            delay = delay + np.array(jitter)
        return ring[everyone, (self.position - delay) % self.depth]


class _ActionDelayEffect(_DelayEffect):
    def begin(self, worlds: IntArray) -> None:
        super().begin(worlds)
        if self.ring is not None:
            self.ring[worlds] = 0

    def action(self, action: Array) -> Array:
        return self.exchange(action)


class _ObservationDelayEffect(_DelayEffect):
    def first_observation(self, observation: Array, worlds: IntArray) -> Array:
        self.fill(observation, worlds)
        return observation

    def observation(self, observation: Array) -> Array:
        return self.exchange(observation)
