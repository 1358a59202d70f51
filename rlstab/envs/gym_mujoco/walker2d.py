"""Walker2d-v5: make a two-legged planar robot walk forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.gym_mujoco import layout, starts, terms
from rlstab.envs.gym_mujoco.base import GymMujocoTask
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm

_OBSERVED_VELOCITY = (-10.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Walker2d(GymMujocoTask):
    """Gymnasium's ``Walker2d-v5``. Observed: ``qpos`` without x, and ``qvel`` clipped to 10: 17 numbers."""

    id: ClassVar[str] = "Walker2d-v5"
    frame_skip: ClassVar[int] = 4

    xml_file: str = "walker2d_v5.xml"
    forward_reward_weight: float = 1.0
    """Reward for each m/s of forward velocity."""
    ctrl_cost_weight: float = 1e-3
    """Cost of the squared norm of the action."""
    healthy_reward: float = 1.0
    """Reward of a step that ends healthy."""
    terminate_when_unhealthy: bool = True
    """Whether an unhealthy state ends the episode."""
    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    """Open interval for the torso's height (m)."""
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)
    """Open interval for the torso's pitch (rad)."""
    reset_noise_scale: float = 5e-3
    exclude_current_positions_from_observation: bool = True
    """Whether x is left out of the observation."""

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Joint positions, then joint velocities."""
        skip = int(self.exclude_current_positions_from_observation)
        velocities = layout.clipped(layout.velocity_terms(model), _OBSERVED_VELOCITY)
        return layout.position_terms(model, skip) + velocities

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Uniform noise on positions and velocities."""
        return starts.uniform_start(model, rng, self.reset_noise_scale)

    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, 17)``, or ``(n, 18)`` with x."""
        skip = int(self.exclude_current_positions_from_observation)
        return np.concatenate((state.qpos[:, skip:], terms.clip(state.qvel, _OBSERVED_VELOCITY)), axis=1)

    def measure(self, state: PhysicsState) -> FloatArray:
        """Forward position x, ``(n,)``, metres."""
        return state.qpos[:, 0].copy()

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Reward for speed and health, less the cost of control; ends when unhealthy."""
        healthy = self.is_healthy(state)
        return {
            "reward_forward": (self.forward_reward_weight / dt) * (state.qpos[:, 0] - before),
            "reward_ctrl": -self.ctrl_cost_weight * terms.squared_norm(action),
            "reward_survive": terms.only_where(healthy, self.healthy_reward),
        }, ~healthy if self.terminate_when_unhealthy else terms.never(len(healthy))

    def is_healthy(self, state: PhysicsState) -> BoolArray:
        """Whether height and pitch are within their ranges, ``(n,)``."""
        qpos = state.qpos
        upright = terms.between(qpos[:, 2], self.healthy_angle_range)
        return terms.between(qpos[:, 1], self.healthy_z_range) & upright
