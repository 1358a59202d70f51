"""Regulating a linear system as a task: the cost is quadratic, the disturbance is a force on the body ``load``."""

from __future__ import annotations

import functools
from abc import ABC
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.linear.systems import SYSTEMS, LinearSystem
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.physics.linear_engine import LinearPhysics
from rlstab.envs.task import ObservationTerm, Task
from rlstab.errors import UserError


@dataclass(frozen=True, kw_only=True)
class LinearQuadratic(Task, ABC):
    """Keep the state of a `LinearSystem` at zero. Observed: the state. The reward is ``-(x'Q x + u'R u)``.

    Episodes end by their time limit alone; nothing ends a loop that is not stable but numbers that overflow.

    Parameters
    ----------
    start_std
        Standard deviation of each state at the beginning of an episode.

    Raises
    ------
    UserError
        It is negative.
    """

    frame_skip: ClassVar[int] = 1
    max_episode_steps: ClassVar[int] = 200
    system_name: ClassVar[str]

    start_std: float = 0.3

    def __post_init__(self) -> None:
        if not self.start_std >= 0.0:
            raise UserError(f"{self.id}: start_std must be 0 or more, got {self.start_std}")

    @functools.cached_property
    def system(self) -> LinearSystem:
        """The matrices."""
        return SYSTEMS[self.system_name]()

    def make_physics(self, num_envs: int, fields: tuple[str, ...], num_threads: int | None) -> LinearPhysics:
        """Step the system exactly."""
        del num_threads
        if fields:
            raise UserError(f"a linear system has no derived quantity '{fields[0]}'")
        return LinearPhysics(self.system, num_envs)

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """One term a state."""
        return tuple(ObservationTerm(f"state/{index}", 1) for index in range(model.nq))

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Independent normal numbers."""
        return self.start_std * rng.standard_normal(model.nq), np.zeros(0)

    def observe(self, state: PhysicsState) -> FloatArray:
        """The state ``(n, nq)``."""
        return state.qpos.copy()

    def measure(self, state: PhysicsState) -> FloatArray:
        """The state before the step, which is charged with the control of the step."""
        return state.qpos.copy()

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Charge state and control."""
        del state, dt
        system = self.system
        terms = {
            "cost_state": -np.einsum("ni,ij,nj->n", before, system.q, before),
            "cost_control": -np.einsum("ni,ij,nj->n", action, system.r, action),
        }
        return terms, np.zeros(len(before), bool)


@dataclass(frozen=True, kw_only=True)
class ScalarRegulation(LinearQuadratic):
    """S1: one unstable state, a control and a disturbance that act alike. 1 number is observed."""

    id: ClassVar[str] = "rlstab/LinearQuadratic-S1-v0"
    system_name: ClassVar[str] = "S1"


@dataclass(frozen=True, kw_only=True)
class IntegratorRegulation(LinearQuadratic):
    """S2: a mass pushed by the control and by the disturbance. Position and velocity are observed."""

    id: ClassVar[str] = "rlstab/LinearQuadratic-S2-v0"
    system_name: ClassVar[str] = "S2"


@dataclass(frozen=True, kw_only=True)
class CartPoleRegulation(LinearQuadratic):
    """S3: a cart under an upright pole whose bob is pushed. Observed: ``x, x_dot, theta, theta_dot``."""

    id: ClassVar[str] = "rlstab/LinearQuadratic-S3-v0"
    system_name: ClassVar[str] = "S3"
