"""Go1Velocity: a quadruped follows commands for its forward, sideways and turning speed on flat ground."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers as number_types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.carried import Carried, WorldState
from rlstab.envs.locomotion import commands, frames, rewards
from rlstab.envs.locomotion.commands import CommandLaw
from rlstab.envs.locomotion.legs import JOINTS, LEGS, joint_positions, joint_velocities
from rlstab.envs.locomotion.robots import Robot, robot_named
from rlstab.envs.physics.interface import BoolArray, FloatArray
from rlstab.envs.physics.mujoco_engine import MujocoPhysics
from rlstab.envs.task import Numbers, ObservationTerm, Task
from rlstab.errors import UserError

_START_SPEED = 0.5
"""Each component of the base's velocity at the start is at most this: m/s, rad/s."""
_START_JOINTS = 0.05
"""Each joint is at most this far from the reference pose at the start, rad."""
_SOFT_LIMITS = 0.95
"""Share of each joint's range in which it may be without a charge."""
_KINDS_OF_SETTING: dict[type, tuple[type, str]] = {
    str: (str, "text"),
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: (number_types.Real, "a number"),
}


@dataclass(frozen=True, kw_only=True)
class Go1Velocity(Task):
    """Follow velocity commands. Observed: 48 numbers, see `observation_terms`. Actions: 12 joint targets.

    An action in -1 to 1 asks each joint's servo for the reference angle plus ``action_scale`` times it. The reward is
    the sum of the weighted terms times the control period, and ``least_reward`` where that would be less (then the term
    ``floor`` makes up for it). Perfect tracking alone gives `tracking_maximum` a step.

    References
    ----------
    MuJoCo Playground (Zakka et al. 2025, arXiv:2502.08844), Go1 joystick task. What differs: the model (see
    `rlstab.envs.locomotion.go1`), all of the robot touches the ground, an episode also ends where the trunk is almost
    on the ground, the base's rolling is judged in its own frame, the soft limits of joints lie evenly within the hard
    ones, and joints start a little away from the reference pose.
    """

    id: ClassVar[str] = "rlstab/Go1Velocity-v0"
    frame_skip: ClassVar[int] = 5
    max_episode_steps: ClassVar[int] = 1000
    fields: ClassVar[tuple[str, ...]] = ("sensordata", "actuator_force")

    robot: str = "go1"
    """``go1``; with ``rlstab[robots]`` also ``go1-unitree``, ``go2`` and ``aliengo``."""
    collisions: str = "all"
    """Which parts of the robot touch the ground: ``all``, or ``feet``, which steps a little faster."""
    action_scale: float = 0.5
    """rad for an action of 1."""
    max_forward: float = 1.5
    """Largest commanded forward speed, m/s."""
    max_sideways: float = 0.8
    """Largest commanded sideways speed, m/s."""
    max_turning: float = 1.2
    """Largest commanded turning rate, rad/s."""
    command_wait: float = 5.0
    """Mean time between changes of the command, s."""
    min_height: float = 0.12
    """An episode ends with the base lower than this above the ground, m."""
    max_tilt: float = 90.0
    """An episode ends with the base tilted further than this, degrees."""

    tracking_sigma: float = 0.25
    """Squared error at which a tracking term falls to 1/e, (m/s)^2 and (rad/s)^2."""
    foot_height: float = 0.1
    """Wanted height of a swinging foot's centre, m."""
    least_reward: float = 0.0
    """No step gives less. 0 spares a beginner from doing worse by living than by falling; -inf never steps in."""
    tracking_linear_weight: float = 1.0
    tracking_angular_weight: float = 0.5
    vertical_speed_weight: float = -0.5
    rolling_weight: float = -0.05
    orientation_weight: float = -5.0
    joint_limits_weight: float = -1.0
    pose_weight: float = 0.5
    termination_weight: float = -1.0
    stand_still_weight: float = -1.0
    torque_weight: float = -2e-4
    action_rate_weight: float = -0.01
    power_weight: float = -1e-3
    foot_clearance_weight: float = -2.0
    swing_height_weight: float = -0.2
    slip_weight: float = -0.1
    air_time_weight: float = 0.1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            wanted, kind = _KINDS_OF_SETTING[type(field.default)]
            if not isinstance(value, wanted) or (wanted is not bool and isinstance(value, bool)) or value != value:
                raise UserError(f"{self.id}: {field.name} must be {kind}, got {value!r}")
        for name in ("action_scale", "tracking_sigma", "foot_height", "command_wait"):
            if not getattr(self, name) > 0.0:
                raise UserError(f"{self.id}: {name} must be above 0, got {getattr(self, name)}")
        if self.collisions not in ("all", "feet"):
            raise UserError(f"{self.id}: collisions are 'all' or 'feet', not '{self.collisions}'")
        robot_named(self.robot)

    @property
    def tracking_weight(self) -> float:
        """What perfect tracking gives a second."""
        return self.tracking_linear_weight + self.tracking_angular_weight

    def tracking_maximum(self, dt: float) -> float:
        """Most that ``tracking_linear`` and ``tracking_angular`` can give together in a step of ``dt`` seconds."""
        return self.tracking_weight * dt

    def make_physics(self, num_envs: int, fields: tuple[str, ...], num_threads: int | None) -> MujocoPhysics:
        """MuJoCo on threads."""
        return MujocoPhysics(self.model, num_envs, fields, num_threads)

    @functools.cached_property
    def model(self) -> Any:
        """The compiled robot and its ground."""
        from rlstab.envs.locomotion.model import complete

        robot = self._robot
        collisions = "feet" if self.collisions == "feet" else "all"
        return complete(robot.describe(), robot.servos(self.action_scale), robot.height, collisions, self.add_ground)

    def add_ground(self, spec: Any) -> None:
        """Add what the robot walks on to the model ``spec``."""
        from rlstab.envs.locomotion.model import flat_ground

        flat_ground(spec)

    def carried(self, model: Any) -> Mapping[str, tuple[int, ...]]:
        """Commands, the last actions (chosen, and arrived), and what each foot is doing."""
        del model
        feet, actions = (len(LEGS),), (len(JOINTS),)
        return {
            **commands.SHAPES,
            "last_action": actions,
            "last_arrived": actions,
            "air_time": feet,
            "swing_peak": feet,
        }

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Layout of the 48 numbers; joints and actions are in the order of `rlstab.envs.locomotion.legs.JOINTS`."""
        del model
        return (
            ObservationTerm("base_linear_velocity", 3, "m/s", frame="base"),
            ObservationTerm("base_angular_velocity", 3, "rad/s", frame="base"),
            ObservationTerm("projected_gravity", 3, "1", frame="base"),
            *(ObservationTerm(f"position_offset/{name}", 1, "rad") for name in JOINTS),
            *(ObservationTerm(f"velocity/{name}", 1, "rad/s") for name in JOINTS),
            ObservationTerm("last_action", len(JOINTS), "1", clip=(-1.0, 1.0)),
            ObservationTerm("command_linear_velocity", 2, "m/s", frame="base"),
            ObservationTerm("command_yaw_rate", 1, "rad/s", frame="base"),
        )

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Near the reference pose, facing anywhere, moving a little."""
        qpos, qvel = np.array(model.key_qpos[0]), np.zeros(model.nv)
        qpos[3:7] = frames.about_vertical(rng.uniform(-math.pi, math.pi))
        qpos[self._positions] += rng.uniform(-_START_JOINTS, _START_JOINTS, len(JOINTS))
        qvel[:6] = rng.uniform(-_START_SPEED, _START_SPEED, 6)
        return qpos, qvel

    def begin(self, model: Any, carried: Carried, world: int, numbers: Numbers) -> tuple[FloatArray, FloatArray]:
        """Draw the first command; nothing was done yet."""
        for name in ("last_action", "last_arrived", "air_time", "swing_peak"):
            carried[name][...] = 0.0
        self._law.begin(carried, world, numbers, self.frame_skip * float(model.opt.timestep))
        return super().begin(model, carried, world, numbers)

    def observe(self, state: WorldState) -> FloatArray:
        """Observation ``(n, 48)``."""
        qpos, qvel, carried = state.qpos, state.qvel, state.carried
        parts = (
            frames.to_body(qpos[:, 3:7], qvel[:, :3]),
            qvel[:, 3:6],
            -frames.up(qpos[:, 3:7]),
            self._joints(state) - self._rest,
            np.take(qvel, self._velocities, axis=1),
            carried["last_action"],
            carried["command"],
        )
        return np.concatenate(parts, axis=1)

    def measure(self, state: WorldState) -> FloatArray:
        """Nothing."""
        return np.empty((len(state.qpos), 0))

    def outcome(
        self, before: FloatArray, state: WorldState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Reward tracking, charge everything unlike a calm gait; ends fallen."""
        fallen = self.fallen(state)
        terms = self._rates(state, action, fallen)
        terms = {name: (getattr(self, f"{name}_weight") * dt) * rate for name, rate in terms.items()}
        # In the order in which the terms are added up to the reward, so that the floor is exactly zero.
        total = functools.reduce(np.add, terms.values())
        terms["floor"] = np.maximum(self.least_reward - total, 0.0)
        return terms, fallen

    def advance(
        self, state: WorldState, commanded: FloatArray, action: FloatArray, numbers: Numbers, dt: float
    ) -> None:
        """Remember the action and the feet; change commands whose time has come."""
        carried = state.carried
        carried["last_action"][...] = np.clip(commanded, -1.0, 1.0)
        carried["last_arrived"][...] = np.clip(action, -1.0, 1.0)
        touching, height, _ = self._feet(state)
        carried["air_time"][...] = np.where(touching, 0.0, carried["air_time"] + dt)
        carried["swing_peak"][...] = np.where(touching, 0.0, np.maximum(carried["swing_peak"], height))
        self._law.advance(carried, numbers, dt)

    def fallen(self, state: WorldState) -> BoolArray:
        """Whether the base is too low or too far from upright, ``(n,)``."""
        upright = frames.up(state.qpos[:, 3:7])[:, 2]
        low = state.qpos[:, 2] - self.ground_height(state, state.qpos[:, None, :2])[:, 0] < self.min_height
        return low | (upright < math.cos(math.radians(self.max_tilt)))

    def ground_height(self, state: WorldState, place: FloatArray) -> FloatArray:
        """Height of the ground, ``(n, k)`` metres, under points ``place (n, k, 2)`` of each world."""
        del state
        return np.zeros(place.shape[:2])

    def _rates(self, state: WorldState, action: FloatArray, fallen: BoolArray) -> dict[str, FloatArray]:
        """Every term a second, before its weight."""
        carried, qpos, qvel = state.carried, state.qpos, state.qvel
        command = carried["command"]
        velocity = frames.to_body(qpos[:, 3:7], qvel[:, :3])
        joints, effort = self._joints(state), state.field("actuator_force")
        touching, height, foot_velocity = self._feet(state)
        seconds = carried["air_time"] + self.frame_skip * self._timestep
        landed = touching & (carried["air_time"] > 0.0)
        peak, moving = np.maximum(carried["swing_peak"], height), rewards.moving(command)
        return {
            "tracking_linear": rewards.tracking(command[:, :2] - velocity[:, :2], self.tracking_sigma),
            "tracking_angular": rewards.tracking(command[:, 2:] - qvel[:, 5:6], self.tracking_sigma),
            "vertical_speed": np.square(qvel[:, 2]),
            "rolling": rewards.squared(qvel[:, 3:5]),
            "orientation": rewards.squared(frames.up(qpos[:, 3:7])[:, :2]),
            "joint_limits": rewards.beyond(joints, self._soft_limits),
            "pose": rewards.pose(joints - self._rest),
            "termination": fallen.astype(np.float64),
            "stand_still": np.sum(np.abs(joints - self._rest), axis=1) * (1.0 - moving),
            "torque": rewards.torque(effort),
            "action_rate": rewards.squared(np.clip(action, -1.0, 1.0) - carried["last_arrived"]),
            "power": rewards.power(effort, np.take(qvel, self._velocities, axis=1)),
            "foot_clearance": rewards.clearance(height, foot_velocity, self.foot_height),
            "swing_height": rewards.swing_height(peak, landed, self.foot_height) * moving,
            "slip": rewards.slip(foot_velocity, touching) * moving,
            "air_time": rewards.air_time(seconds, landed) * moving,
        }

    def _feet(self, state: WorldState) -> tuple[BoolArray, FloatArray, FloatArray]:
        """Whether each foot touches ``(n, 4)``, its centre's height above the ground, its velocity ``(n, 4, 3)``."""
        from rlstab.envs.locomotion.model import foot_readings

        force, place, velocity = foot_readings(state.field("sensordata"))
        return force > 0.0, place[..., 2] - self.ground_height(state, place[..., :2]), velocity

    def _joints(self, state: WorldState) -> FloatArray:
        """Angles ``(n, 12)``, rad."""
        # Rows in one piece, unlike those of an indexed array: else sums would round by how many worlds there are.
        return np.take(state.qpos, self._positions, axis=1)

    @functools.cached_property
    def _robot(self) -> Robot:
        return robot_named(self.robot)

    @functools.cached_property
    def _law(self) -> CommandLaw:
        limits = (self.max_forward, self.max_sideways, self.max_turning)
        return CommandLaw(limits, (0.9, 0.25, 0.5), self.command_wait)

    @functools.cached_property
    def _rest(self) -> FloatArray:
        return np.array([servo.rest for servo in self._robot.servos(self.action_scale)])

    @functools.cached_property
    def _positions(self) -> Any:
        return joint_positions(self.model)

    @functools.cached_property
    def _velocities(self) -> Any:
        return joint_velocities(self.model)

    @functools.cached_property
    def _soft_limits(self) -> tuple[FloatArray, FloatArray]:
        low, high = np.array([self.model.joint(name).range for name in JOINTS]).T
        margin = 0.5 * (1.0 - _SOFT_LIMITS) * (high - low)
        return low + margin, high - margin

    @functools.cached_property
    def _timestep(self) -> float:
        return float(self.model.opt.timestep)
