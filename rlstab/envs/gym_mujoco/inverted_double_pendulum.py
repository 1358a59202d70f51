"""InvertedDoublePendulum-v5: keep two poles on a cart upright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.gym_mujoco import layout, starts, terms
from rlstab.envs.gym_mujoco.base import GymMujocoTask
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm

_MIN_TIP_HEIGHT = 1.0  # m; 1.2 when upright
_OBSERVED_RANGE = (-10.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class InvertedDoublePendulum(GymMujocoTask):
    """Gymnasium's ``InvertedDoublePendulum-v5``. Observed: positions, rates, constraint force, 9 numbers."""

    id: ClassVar[str] = "InvertedDoublePendulum-v5"
    frame_skip: ClassVar[int] = 5
    fields: ClassVar[tuple[str, ...]] = ("site_xpos", "qfrc_constraint")

    xml_file: str = "inverted_double_pendulum.xml"
    healthy_reward: float = 10.0
    """Reward of a step that ends with the tip above 1 m."""
    reset_noise_scale: float = 0.1

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Cart position, sines and cosines of the poles' angles, rates, and the force of the rail's end on the cart."""
        poles = layout.joint_names(model)[1:]
        return (
            layout.position_terms(model)[0],
            *(ObservationTerm(f"sin/{name}", 1, "1") for name in poles),
            *(ObservationTerm(f"cos/{name}", 1, "1") for name in poles),
            *layout.clipped(layout.velocity_terms(model), _OBSERVED_RANGE),
            *layout.clipped(layout.force_terms(model, "constraint_force")[:1], _OBSERVED_RANGE),
        )

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Uniform noise on positions, normal noise on velocities."""
        return starts.normal_velocity_start(model, rng, self.reset_noise_scale)

    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, 9)``."""
        qpos = state.qpos
        angles = qpos[:, 1:]
        return np.concatenate(
            (
                qpos[:, :1],
                np.sin(angles),
                np.cos(angles),
                terms.clip(state.qvel, _OBSERVED_RANGE),
                terms.clip(state.field("qfrc_constraint")[:, :1], _OBSERVED_RANGE),
            ),
            axis=1,
        )

    def measure(self, state: PhysicsState) -> FloatArray:
        """Nothing from before the step matters."""
        return terms.nothing(len(state.qpos))

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Reward for staying up, less the tip's distance from its goal and the poles' rates."""
        tip = state.field("site_xpos")[:, 0]
        x, height = tip[:, 0], tip[:, 2]
        qvel = state.qvel
        fallen = height <= _MIN_TIP_HEIGHT
        return {
            "reward_survive": terms.only_where(~fallen, self.healthy_reward),
            "distance_penalty": -0.01 * np.square(x) - np.square(height - 2.0),
            "velocity_penalty": -1e-3 * np.square(qvel[:, 1]) - 5e-3 * np.square(qvel[:, 2]),
        }, fallen
