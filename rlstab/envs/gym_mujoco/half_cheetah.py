"""HalfCheetah-v5: make a planar two-legged robot run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.gym_mujoco import layout, starts, terms
from rlstab.envs.gym_mujoco.base import GymMujocoTask
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm


@dataclass(frozen=True, kw_only=True)
class HalfCheetah(GymMujocoTask):
    """Gymnasium's ``HalfCheetah-v5``. Observed: ``qpos`` without x, and ``qvel``: 17 numbers. It never terminates."""

    id: ClassVar[str] = "HalfCheetah-v5"
    frame_skip: ClassVar[int] = 5

    xml_file: str = "half_cheetah.xml"
    forward_reward_weight: float = 1.0
    """Reward for each m/s of forward velocity."""
    ctrl_cost_weight: float = 0.1
    """Cost of the squared norm of the action."""
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True
    """Whether x is left out of the observation."""

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Joint positions, then joint velocities."""
        skip = int(self.exclude_current_positions_from_observation)
        return layout.position_terms(model, skip) + layout.velocity_terms(model)

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Uniform noise on positions, normal noise on velocities."""
        return starts.normal_velocity_start(model, rng, self.reset_noise_scale)

    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, 17)``, or ``(n, 18)`` with x."""
        skip = int(self.exclude_current_positions_from_observation)
        return np.concatenate((state.qpos[:, skip:], state.qvel), axis=1)

    def measure(self, state: PhysicsState) -> FloatArray:
        """Forward position x, ``(n,)``, metres."""
        return state.qpos[:, 0].copy()

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Reward for speed, less the cost of control."""
        return {
            "reward_forward": (self.forward_reward_weight / dt) * (state.qpos[:, 0] - before),
            "reward_ctrl": -self.ctrl_cost_weight * terms.squared_norm(action),
        }, terms.never(len(before))
