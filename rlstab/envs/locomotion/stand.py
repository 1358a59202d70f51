"""Go1Stand: a quadruped rises onto its hind legs, stays there, and follows a slow forward speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.carried import Carried, WorldState
from rlstab.envs.locomotion import frames, rewards
from rlstab.envs.locomotion.legs import FRONT_LEGS, PARTS
from rlstab.envs.locomotion.quadruped import Quadruped
from rlstab.envs.physics.interface import BoolArray, FloatArray
from rlstab.envs.task import Numbers, ObservationTerm

_STANDING_HEIGHT, _STANDING_UPRIGHT = 0.9, 0.9
"""Share of the wanted height, and cosine of the trunk's tilt from pointing up, from which on a robot stands."""
_FRONT_JOINTS = slice(0, len(FRONT_LEGS) * len(PARTS))


@dataclass(frozen=True, kw_only=True)
class Go1Stand(Quadruped):
    """Stand on the hind legs, nose up. Observed: what a quadruped senses and the commanded speed, 46 numbers.

    A robot that stands walks where its belly points: forward speed is that against the base's z axis. Tracking counts
    only while it stands.

    References
    ----------
    MuJoCo Playground (Zakka et al. 2025, arXiv:2502.08844), Go1 footstand task: height, orientation, contact, limits
    and pose. What differs: actions are targets around the reference pose rather than changes of the last target, so
    that what is exported says what an action is; an episode ends where the trunk is almost on the ground or leans over
    backwards, and not at any touch of the hind links; tracking of a speed is ours.
    """

    id: ClassVar[str] = "rlstab/Go1Stand-v0"
    max_episode_steps: ClassVar[int] = 500
    soft_limits_share: ClassVar[float] = 0.9

    action_scale: float = 2.0
    """rad for an action of 1: upright, hind thighs are some 1.4 rad from where they are on four legs."""
    max_tilt: float = 104.5
    """An episode ends with the base's z axis further than this from the vertical, degrees; standing it is at 90."""
    standing_height: float = 0.53
    """Wanted height of the base, m."""
    max_forward: float = 0.3
    """Largest commanded speed, m/s."""
    tracking_sigma: float = 0.05
    """Squared error at which the tracking term falls to 1/e, (m/s)^2."""
    height_weight: float = 1.0
    upright_weight: float = 1.0
    tracking_linear_weight: float = 1.0
    front_contact_weight: float = -0.1
    joint_limits_weight: float = -0.5
    front_pose_weight: float = -0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("standing_height", "tracking_sigma")

    def carried(self, model: Any) -> Mapping[str, tuple[int, ...]]:
        """Besides the last actions: the commanded speed."""
        return {**super().carried(model), "command": (1,)}

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """What the robot senses, then its command."""
        return (*super().observation_terms(model), ObservationTerm("command_forward_velocity", 1, "m/s", frame="base"))

    def observe(self, state: WorldState) -> FloatArray:
        """Observation ``(n, 46)``."""
        return np.concatenate((super().observe(state), state.carried["command"]), axis=1)

    def begin(self, model: Any, carried: Carried, world: int, numbers: Numbers) -> tuple[FloatArray, FloatArray]:
        """Draw the command of the episode; start on four legs."""
        carried["command"][...] = self.max_forward * numbers(world, "command").uniform(-1.0, 1.0, 1)
        return super().begin(model, carried, world, numbers)

    def outcome(
        self, before: FloatArray, state: WorldState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Reward height, an upright trunk and, standing, tracking; ends fallen."""
        quaternion, offsets = state.qpos[:, 3:7], self.joint_offsets(state)
        height, nose_up = state.qpos[:, 2], frames.forward(quaternion)[:, 2]
        standing = (height > _STANDING_HEIGHT * self.standing_height) & (nose_up > _STANDING_UPRIGHT)
        speed = -frames.to_body(quaternion, state.qvel[:, :3])[:, 2:]
        touching, _, _ = self.feet(state)
        rates = {
            "height": np.exp(np.minimum(height, self.standing_height) - self.standing_height),
            "upright": np.square(0.5 + 0.5 * nose_up),
            "tracking_linear": rewards.tracking(state.carried["command"] - speed, self.tracking_sigma) * standing,
            "front_contact": np.any(touching[:, FRONT_LEGS], axis=1).astype(np.float64),
            "joint_limits": rewards.beyond(offsets, self.soft_limits),
            "front_pose": rewards.squared(offsets[:, _FRONT_JOINTS]),
        }
        return self.weighted(rates, dt), self.fallen(state)
