"""Holding a plant at its equilibrium, as a task for every method and command: the loops that certificates are about."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.physics.plant_engine import PlantPhysics
from rlstab.envs.plants.plant import Plant
from rlstab.envs.plants.systems import CartPole, InvertedPendulum, PathTracking, PlanarQuadrotor
from rlstab.envs.task import ObservationTerm, Task
from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.envs.plants.rendering import PlantRenderer


@dataclass(frozen=True, kw_only=True)
class PlantRegulation(Task, ABC):
    """Keep the state of a `Plant` at zero. Observed: the state, angles not wrapped. Actions: the plant's controls.

    A step within the box earns ``1 - mean((x / box)^2) - 0.01 mean((u - u_eq)^2 / (half the range of u)^2)``, with the
    state before the step; the episode ends where the state leaves the box, or after 200 steps.

    Parameters
    ----------
    start_share
        Share of the box in which episodes begin, uniformly.

    Raises
    ------
    UserError
        A constant makes no sense.
    """

    frame_skip: ClassVar[int] = 1
    max_episode_steps: ClassVar[int] = 200

    start_share: float = 0.25

    def __post_init__(self) -> None:
        if not 0.0 <= self.start_share <= 1.0:
            raise UserError(f"{self.id}: start_share must be between 0 and 1, got {self.start_share}")
        try:
            self.plant.constants()
        except UserError as error:
            raise UserError(f"{self.id}: {error}") from error

    @abstractmethod
    def make_plant(self) -> Plant:
        """Make the plant of this task's constants."""

    @functools.cached_property
    def plant(self) -> Plant:
        """What moves."""
        return self.make_plant()

    def make_physics(self, num_envs: int, fields: tuple[str, ...], num_threads: int | None) -> PlantPhysics:
        """Step the plant as it is written."""
        del num_threads
        if fields:
            raise UserError(f"a plant has no derived quantity '{fields[0]}'")
        return PlantPhysics(self.plant, num_envs)

    def make_renderer(self, model: Any, width: int, height: int) -> PlantRenderer:
        """Draw with matplotlib."""
        from rlstab.envs.plants.rendering import PlantRenderer

        del model
        return PlantRenderer(self.plant, width, height)

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """One term a state, with its unit."""
        names = zip(self.plant.state_names, self.plant.state_units, strict=True)
        return tuple(ObservationTerm(name, 1, unit) for name, unit in names)

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Anywhere in the inner box."""
        half = self.start_share * np.array(self.plant.box)
        return rng.uniform(-half, half), np.zeros(0)

    def observe(self, state: PhysicsState) -> FloatArray:
        """The state ``(n, nq)``."""
        return state.qpos.copy()

    def measure(self, state: PhysicsState) -> FloatArray:
        """The state before the step."""
        return state.qpos.copy()

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Charge state and control; end where the box is left."""
        del dt
        plant = self.plant
        box, middle = np.array(plant.box), np.array(plant.equilibrium_control)
        half_range = 0.5 * (np.array(plant.control_high) - np.array(plant.control_low))
        terms = {
            "reward_inside": np.ones(len(before)),
            "cost_state": -((before / box) ** 2).mean(1),
            "cost_control": -0.01 * (((action - middle) / half_range) ** 2).mean(1),
        }
        return terms, np.asarray((np.abs(state.qpos) > box).any(1))


@dataclass(frozen=True, kw_only=True)
class PendulumRegulation(PlantRegulation):
    """`InvertedPendulum` with up to ``torque_limit`` (N m), in the box ``angle_limit`` (rad) by ``rate_limit`` (rad/s).

    Its angle counts turns: hanging down is +-pi, and upright after a whole turn is not the goal.
    """

    id: ClassVar[str] = "rlstab/PlantPendulum-v0"

    torque_limit: float = 6.0
    mass: float = 0.15
    length: float = 0.5
    damping: float = 0.1
    gravity: float = 9.81
    angle_limit: float = 12.0
    rate_limit: float = 12.0

    def make_plant(self) -> InvertedPendulum:
        """See the class."""
        return InvertedPendulum(
            mass=self.mass,
            length=self.length,
            damping=self.damping,
            gravity=self.gravity,
            box=(self.angle_limit, self.rate_limit),
            control_low=(-self.torque_limit,),
            control_high=(self.torque_limit,),
        )


@dataclass(frozen=True, kw_only=True)
class WeakPendulumRegulation(PendulumRegulation):
    """The same with 0.75 N m, hardly more than the weight's largest torque of 0.74 N m."""

    id: ClassVar[str] = "rlstab/PlantPendulumWeak-v0"

    torque_limit: float = 0.75


@dataclass(frozen=True, kw_only=True)
class PathRegulation(PlantRegulation):
    """`PathTracking` with a steering angle whose tangent is up to ``steering_limit``, in a box of m and rad."""

    id: ClassVar[str] = "rlstab/PlantPath-v0"

    steering_limit: float = 0.84
    speed: float = 2.0
    wheelbase: float = 1.0
    radius: float = 10.0
    distance_limit: float = 3.0
    heading_limit: float = 3.0

    def make_plant(self) -> PathTracking:
        """See the class."""
        return PathTracking(
            speed=self.speed,
            wheelbase=self.wheelbase,
            radius=self.radius,
            box=(self.distance_limit, self.heading_limit),
            control_low=(-self.steering_limit,),
            control_high=(self.steering_limit,),
        )


@dataclass(frozen=True, kw_only=True)
class TightPathRegulation(PathRegulation):
    """The same with tangents up to 0.5."""

    id: ClassVar[str] = "rlstab/PlantPathTight-v0"

    steering_limit: float = 0.5


@dataclass(frozen=True, kw_only=True)
class CartPoleRegulation(PlantRegulation):
    """`CartPole` of the literature on certified control: 1 kg under a pole of 1 m, a force of up to 30 N."""

    id: ClassVar[str] = "rlstab/PlantCartPole-v0"

    force_limit: float = 30.0

    def make_plant(self) -> CartPole:
        """See the class."""
        return CartPole(control_low=(-self.force_limit,), control_high=(self.force_limit,))


@dataclass(frozen=True, kw_only=True)
class QuadrotorRegulation(PlantRegulation):
    """`PlanarQuadrotor` at a point in a vertical plane, by the thrusts of two rotors up to ``thrust_limit`` N each."""

    id: ClassVar[str] = "rlstab/PlantQuadrotor2D-v0"

    thrust_limit: float = 1.25 * 0.486 * 9.81

    def make_plant(self) -> PlanarQuadrotor:
        """See the class."""
        return PlanarQuadrotor(control_high=(self.thrust_limit,) * 2)
