"""Reacher-v5: bring the tip of a planar two-joint arm to a random target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.gym_mujoco import layout, terms
from rlstab.envs.gym_mujoco.base import GymMujocoTask
from rlstab.envs.gym_mujoco.model_file import body_index
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm

_ARM_JOINTS = 2
_ANGLE_NOISE = 0.1  # rad
_VELOCITY_NOISE = 0.005  # rad/s
_TARGET_RADIUS = 0.2  # m


@dataclass(frozen=True, kw_only=True)
class Reacher(GymMujocoTask):
    """Gymnasium's ``Reacher-v5``. Observed: angles, target, rates, distance: 10 numbers. It never terminates."""

    id: ClassVar[str] = "Reacher-v5"
    frame_skip: ClassVar[int] = 2
    max_episode_steps: ClassVar[int] = 50
    fields: ClassVar[tuple[str, ...]] = ("xpos",)

    xml_file: str = "reacher.xml"
    reward_dist_weight: float = 1.0
    """Cost of each metre between fingertip and target."""
    reward_control_weight: float = 1.0
    """Cost of the squared norm of the action."""

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Cosines and sines of the arm's angles, target, angular rates, and the vector from target to fingertip."""
        arm = layout.joint_names(model)[:_ARM_JOINTS]
        return (
            *(ObservationTerm(f"cos/{name}", 1, "1") for name in arm),
            *(ObservationTerm(f"sin/{name}", 1, "1") for name in arm),
            *layout.position_terms(model, skip=_ARM_JOINTS),
            *layout.velocity_terms(model)[:_ARM_JOINTS],
            ObservationTerm("fingertip_from_target", 2, "m"),
        )

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Arm near straight and still, target uniform in a disc."""
        qpos = rng.uniform(-_ANGLE_NOISE, _ANGLE_NOISE, model.nq) + model.qpos0
        while True:
            target = rng.uniform(-_TARGET_RADIUS, _TARGET_RADIUS, 2)
            if np.linalg.norm(target) < _TARGET_RADIUS:
                break
        qpos[-2:] = target
        qvel = rng.uniform(-_VELOCITY_NOISE, _VELOCITY_NOISE, model.nv)
        qvel[-2:] = 0.0
        return qpos, qvel

    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, 10)``."""
        qpos = state.qpos
        angles = qpos[:, :_ARM_JOINTS]
        return np.concatenate(
            (
                np.cos(angles),
                np.sin(angles),
                qpos[:, _ARM_JOINTS:],
                state.qvel[:, :_ARM_JOINTS],
                self._miss(state)[:, :2],
            ),
            axis=1,
        )

    def measure(self, state: PhysicsState) -> FloatArray:
        """Nothing from before the step matters."""
        return terms.nothing(len(state.qpos))

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Cost of distance and of control."""
        return {
            "reward_dist": -self.reward_dist_weight * np.sqrt(terms.squared_norm(self._miss(state))),
            "reward_ctrl": -self.reward_control_weight * terms.squared_norm(action),
        }, terms.never(len(action))

    def _miss(self, state: PhysicsState) -> FloatArray:
        """Vector from the target to the fingertip, ``(n, 3)``, metres, world frame."""
        fingertip, target = self._bodies
        xpos = state.field("xpos")
        return xpos[:, fingertip] - xpos[:, target]

    @cached_property
    def _bodies(self) -> tuple[int, int]:
        path = self.model_path()
        return body_index(path, "fingertip"), body_index(path, "target")
