"""What the tasks of four-legged robots share: the robot, its servos, what it senses, and what falling is."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers as number_types
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rlstab.envs.carried import Carried, WorldState
from rlstab.envs.locomotion import frames
from rlstab.envs.locomotion.legs import JOINTS, LEGS, joint_positions, joint_velocities
from rlstab.envs.locomotion.robots import Robot, robot_named
from rlstab.envs.physics.interface import BoolArray, FloatArray, IntArray
from rlstab.envs.task import Numbers, ObservationTerm, Task
from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.envs.physics.mujoco_engine import MujocoPhysics

_START_SPEED = 0.5
"""Each component of the base's velocity at the start is at most this: m/s, rad/s."""
_START_JOINTS = 0.05
"""Each joint is at most this far from the reference pose at the start, rad."""
_KINDS_OF_SETTING: dict[type, tuple[type, str]] = {
    str: (str, "text"),
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: (number_types.Real, "a number"),
}


@dataclass(frozen=True, kw_only=True)
class Quadruped(Task, ABC):
    """A four-legged robot whose actions are the targets of its twelve joint servos.

    An action in -1 to 1 asks a joint for the reference angle plus ``action_scale`` times it. The reward is the sum of
    the weighted terms times the control period, and ``least_reward`` where that would be less: then the term ``floor``
    makes up for it.

    Raises
    ------
    UserError
        A setting has the wrong type or makes no sense.
    """

    frame_skip: ClassVar[int] = 5
    fields: ClassVar[tuple[str, ...]] = ("sensordata", "actuator_force")
    soft_limits_share: ClassVar[float] = 0.95
    """Share of each joint's range in which it may be without a charge."""

    robot: str = "go1"
    """``go1``; with ``rlstab[robots]`` also ``go1-unitree``, ``go2`` and ``aliengo``."""
    collisions: str = "all"
    """Which parts of the robot touch the ground: ``all``, or ``feet``, which steps a little faster."""
    action_scale: float = 0.5
    """rad for an action of 1."""
    min_height: float = 0.12
    """An episode ends with the base lower than this above the ground, m."""
    max_tilt: float = 90.0
    """An episode ends with the base tilted further than this, degrees."""
    least_reward: float = 0.0
    """No step gives less. 0 spares a beginner from doing worse by living than by falling; -inf never steps in."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            wanted, kind = _KINDS_OF_SETTING[type(field.default)]
            if not isinstance(value, wanted) or (wanted is not bool and isinstance(value, bool)) or value != value:
                raise UserError(f"{self.id}: {field.name} must be {kind}, got {value!r}")
        self._check_positive("action_scale")
        if self.collisions not in ("all", "feet"):
            raise UserError(f"{self.id}: collisions are 'all' or 'feet', not '{self.collisions}'")
        robot_named(self.robot)

    def make_physics(self, num_envs: int, fields: tuple[str, ...], num_threads: int | None) -> MujocoPhysics:
        """MuJoCo on threads."""
        # Here, as all of MuJoCo in this family: registering the environments must not wait for it.
        from rlstab.envs.physics.mujoco_engine import MujocoPhysics

        return MujocoPhysics(self.model, num_envs, fields, num_threads)

    @functools.cached_property
    def model(self) -> Any:
        """The compiled robot and its ground."""
        from rlstab.envs.locomotion.model import complete

        robot = self.kit
        collisions = "feet" if self.collisions == "feet" else "all"
        return complete(robot.describe(), robot.servos(self.action_scale), robot.height, collisions, self.add_ground)

    def add_ground(self, spec: Any) -> None:
        """Add what the robot walks on to the model ``spec``."""
        from rlstab.envs.locomotion.model import flat_ground

        flat_ground(spec)

    def ground_height(self, state: WorldState, place: FloatArray) -> FloatArray:
        """Height of the ground, ``(n, k)`` metres, under points ``place (n, k, 2)`` of each world."""
        del state
        return np.zeros(place.shape[:2])

    def carried(self, model: Any) -> Mapping[str, tuple[int, ...]]:
        """The last actions: the one chosen, and the one that reached the robot."""
        del model
        return {"last_action": (len(JOINTS),), "last_arrived": (len(JOINTS),)}

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Layout of what `observe` gives; joints and actions in the order of `rlstab.envs.locomotion.legs.JOINTS`."""
        del model
        return (
            ObservationTerm("base_linear_velocity", 3, "m/s", frame="base"),
            ObservationTerm("base_angular_velocity", 3, "rad/s", frame="base"),
            ObservationTerm("projected_gravity", 3, "1", frame="base"),
            *(ObservationTerm(f"position_offset/{name}", 1, "rad") for name in JOINTS),
            *(ObservationTerm(f"velocity/{name}", 1, "rad/s") for name in JOINTS),
            ObservationTerm("last_action", len(JOINTS), "1", clip=(-1.0, 1.0)),
        )

    def observe(self, state: WorldState) -> FloatArray:
        """What the robot senses, ``(n, 45)``."""
        qpos, qvel = state.qpos, state.qvel
        parts = (
            frames.to_body(qpos[:, 3:7], qvel[:, :3]),
            qvel[:, 3:6],
            -frames.up(qpos[:, 3:7]),
            self.joint_offsets(state),
            self.joint_speeds(state),
            state.carried["last_action"],
        )
        return np.concatenate(parts, axis=1)

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Near the reference pose, facing anywhere, moving a little."""
        qpos, qvel = np.array(model.key_qpos[0]), np.zeros(model.nv)
        qpos[3:7] = frames.about_vertical(rng.uniform(-math.pi, math.pi))
        qpos[self._places[0]] += rng.uniform(-_START_JOINTS, _START_JOINTS, len(JOINTS))
        qvel[:6] = rng.uniform(-_START_SPEED, _START_SPEED, 6)
        return qpos, qvel

    def begin(self, model: Any, carried: Carried, world: int, numbers: Numbers) -> tuple[FloatArray, FloatArray]:
        """Nothing was done yet."""
        carried["last_action"][...] = carried["last_arrived"][...] = 0.0
        return super().begin(model, carried, world, numbers)

    def measure(self, state: WorldState) -> FloatArray:
        """Nothing."""
        return np.empty((len(state.qpos), 0))

    def advance(
        self, state: WorldState, commanded: FloatArray, action: FloatArray, numbers: Numbers, dt: float
    ) -> None:
        """Remember the action."""
        state.carried["last_action"][...] = np.clip(commanded, -1.0, 1.0)
        state.carried["last_arrived"][...] = np.clip(action, -1.0, 1.0)

    def fallen(self, state: WorldState) -> BoolArray:
        """Whether the base is too low or too far from upright, ``(n,)``."""
        upright = frames.up(state.qpos[:, 3:7])[:, 2]
        low = state.qpos[:, 2] - self.ground_height(state, state.qpos[:, None, :2])[:, 0] < self.min_height
        return low | (upright < math.cos(math.radians(self.max_tilt)))

    def weighted(self, rates: Mapping[str, FloatArray], dt: float) -> dict[str, FloatArray]:
        """Terms of the reward of a step of ``dt`` seconds from ``rates`` a second, by the fields named after them."""
        terms = {name: (getattr(self, f"{name}_weight") * dt) * rate for name, rate in rates.items()}
        # In the order in which the terms are added up to the reward, so that the floor is exact.
        total = functools.reduce(np.add, terms.values())
        return {**terms, "floor": np.maximum(self.least_reward - total, 0.0)}

    def joint_offsets(self, state: WorldState) -> FloatArray:
        """Angles less those of the reference pose, ``(n, 12)`` rad."""
        # Rows in one piece, unlike those of an indexed array: else sums would round by how many worlds there are.
        return np.take(state.qpos, self._places[0], axis=1) - self.rest

    def joint_speeds(self, state: WorldState) -> FloatArray:
        """``(n, 12)`` rad/s."""
        return np.take(state.qvel, self._places[1], axis=1)

    def feet(self, state: WorldState) -> tuple[BoolArray, FloatArray, FloatArray]:
        """Whether each foot touches ``(n, 4)``, its centre's height above the ground, its velocity ``(n, 4, 3)``."""
        from rlstab.envs.locomotion.model import foot_readings

        force, place, velocity = foot_readings(state.field("sensordata"))
        return force > 0.0, place[..., 2] - self.ground_height(state, place[..., :2]), velocity

    @functools.cached_property
    def kit(self) -> Robot:
        """The robot."""
        return robot_named(self.robot)

    @functools.cached_property
    def rest(self) -> FloatArray:
        """Reference pose, ``(12,)`` rad."""
        return np.array(self.kit.rest * len(LEGS))

    @functools.cached_property
    def soft_limits(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest `joint_offsets` without a charge, ``(12,)`` each."""
        low, high = np.array([self.model.joint(name).range for name in JOINTS]).T - self.rest
        margin = 0.5 * (1.0 - self.soft_limits_share) * (high - low)
        return low + margin, high - margin

    @functools.cached_property
    def period(self) -> float:
        """Control period, s."""
        return self.frame_skip * float(self.model.opt.timestep)

    @functools.cached_property
    def _places(self) -> tuple[IntArray, IntArray]:
        """Where the joints are in ``qpos`` and ``qvel``."""
        return joint_positions(self.model), joint_velocities(self.model)

    def _check_positive(self, *names: str) -> None:
        for name in names:
            if not getattr(self, name) > 0.0:
                raise UserError(f"{self.id}: {name} must be above 0, got {getattr(self, name)}")
