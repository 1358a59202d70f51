"""Go1Velocity: a quadruped follows commands for its forward, sideways and turning speed on flat ground."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.carried import Carried, WorldState
from rlstab.envs.locomotion import commands, frames, rewards
from rlstab.envs.locomotion.commands import CommandLaw
from rlstab.envs.locomotion.legs import LEGS
from rlstab.envs.locomotion.quadruped import Quadruped
from rlstab.envs.physics.interface import BoolArray, FloatArray
from rlstab.envs.task import Numbers, ObservationTerm

_KEPT = (0.9, 0.25, 0.5)
"""Probability of each new component of a command not to be set to zero."""


@dataclass(frozen=True, kw_only=True)
class Go1Velocity(Quadruped):
    """Follow velocity commands. Observed: 48 numbers, see `observation_terms`. Actions: 12 joint targets.

    Perfect tracking alone gives `tracking_maximum` a step; see `Quadruped` for how terms become a reward.

    References
    ----------
    MuJoCo Playground (Zakka et al. 2025, arXiv:2502.08844), Go1 joystick task. What differs: the model (see
    `rlstab.envs.locomotion.go1`), all of the robot touches the ground, an episode also ends where the trunk is almost
    on the ground, the base's rolling is judged in its own frame, the soft limits of joints lie evenly within the hard
    ones, and joints start a little away from the reference pose.
    """

    id: ClassVar[str] = "rlstab/Go1Velocity-v0"

    max_forward: float = 1.5
    """Largest commanded forward speed, m/s."""
    max_sideways: float = 0.8
    """Largest commanded sideways speed, m/s."""
    max_turning: float = 1.2
    """Largest commanded turning rate, rad/s."""
    command_wait: float = 5.0
    """Mean time between changes of the command, s."""

    tracking_sigma: float = 0.25
    """Squared error at which a tracking term falls to 1/e, (m/s)^2 and (rad/s)^2."""
    foot_height: float = 0.1
    """Wanted height of a swinging foot's centre, m."""
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
        super().__post_init__()
        self._check_positive("tracking_sigma", "foot_height", "command_wait")

    def tracking_maximum(self, dt: float) -> float:
        """Most that ``tracking_linear`` and ``tracking_angular`` can give together in a step of ``dt`` seconds."""
        return (self.tracking_linear_weight + self.tracking_angular_weight) * dt

    def carried(self, model: Any) -> Mapping[str, tuple[int, ...]]:
        """Besides the last actions: commands, how long each foot is in the air (s) and how high it got (m)."""
        feet = (len(LEGS),)
        return {**super().carried(model), **commands.SHAPES, "air_time": feet, "swing_peak": feet}

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """What the robot senses, then its command."""
        return (
            *super().observation_terms(model),
            ObservationTerm("command_linear_velocity", 2, "m/s", frame="base"),
            ObservationTerm("command_yaw_rate", 1, "rad/s", frame="base"),
        )

    def observe(self, state: WorldState) -> FloatArray:
        """Observation ``(n, 48)``."""
        return np.concatenate((super().observe(state), state.carried["command"]), axis=1)

    def begin(self, model: Any, carried: Carried, world: int, numbers: Numbers) -> tuple[FloatArray, FloatArray]:
        """Draw the first command."""
        carried["air_time"][...] = carried["swing_peak"][...] = 0.0
        self._law.begin(carried, world, numbers, self.period)
        return super().begin(model, carried, world, numbers)

    def outcome(
        self, before: FloatArray, state: WorldState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Reward tracking, charge everything unlike a calm gait; ends fallen."""
        fallen = self.fallen(state)
        rates = {
            **self._body_rates(state, action),
            **self._foot_rates(state, dt),
            "termination": fallen.astype(np.float64),
        }
        return self.weighted(rates, dt), fallen

    def advance(
        self, state: WorldState, commanded: FloatArray, action: FloatArray, numbers: Numbers, dt: float
    ) -> None:
        """Remember the action and the feet; change commands whose time has come."""
        super().advance(state, commanded, action, numbers, dt)
        carried = state.carried
        touching, height, _ = self.feet(state)
        carried["air_time"][...] = np.where(touching, 0.0, carried["air_time"] + dt)
        carried["swing_peak"][...] = np.where(touching, 0.0, np.maximum(carried["swing_peak"], height))
        self._law.advance(carried, numbers, dt)

    def _body_rates(self, state: WorldState, action: FloatArray) -> dict[str, FloatArray]:
        """Terms of the base and the joints, a second, before their weights."""
        carried, qpos, qvel = state.carried, state.qpos, state.qvel
        command = carried["command"]
        velocity = frames.to_body(qpos[:, 3:7], qvel[:, :3])
        offsets, effort = self.joint_offsets(state), state.field("actuator_force")
        return {
            "tracking_linear": rewards.tracking(command[:, :2] - velocity[:, :2], self.tracking_sigma),
            "tracking_angular": rewards.tracking(command[:, 2:] - qvel[:, 5:6], self.tracking_sigma),
            "vertical_speed": np.square(qvel[:, 2]),
            "rolling": rewards.squared(qvel[:, 3:5]),
            "orientation": rewards.squared(frames.up(qpos[:, 3:7])[:, :2]),
            "joint_limits": rewards.beyond(offsets, self.soft_limits),
            "pose": rewards.pose(offsets),
            "stand_still": np.sum(np.abs(offsets), axis=1) * (1.0 - rewards.moving(command)),
            "torque": rewards.torque(effort),
            "action_rate": rewards.squared(np.clip(action, -1.0, 1.0) - carried["last_arrived"]),
            "power": rewards.power(effort, self.joint_speeds(state)),
        }

    def _foot_rates(self, state: WorldState, dt: float) -> dict[str, FloatArray]:
        """Terms of the feet."""
        carried = state.carried
        touching, height, velocity = self.feet(state)
        landed = touching & (carried["air_time"] > 0.0)
        peak, moving = np.maximum(carried["swing_peak"], height), rewards.moving(carried["command"])
        return {
            "foot_clearance": rewards.clearance(height, velocity, self.foot_height),
            "swing_height": rewards.swing_height(peak, landed, self.foot_height) * moving,
            "slip": rewards.slip(velocity, touching) * moving,
            "air_time": rewards.air_time(carried["air_time"] + dt, landed) * moving,
        }

    @functools.cached_property
    def _law(self) -> CommandLaw:
        return CommandLaw((self.max_forward, self.max_sideways, self.max_turning), _KEPT, self.command_wait)
