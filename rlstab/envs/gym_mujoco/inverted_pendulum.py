"""InvertedPendulum-v5: keep a pole on a cart upright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.gym_mujoco import layout, starts, terms
from rlstab.envs.gym_mujoco.base import GymMujocoTask
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm

_MAX_ANGLE = 0.2  # rad


@dataclass(frozen=True, kw_only=True)
class InvertedPendulum(GymMujocoTask):
    """Gymnasium's ``InvertedPendulum-v5``. Observed: ``qpos``, ``qvel``, 4 numbers."""

    id: ClassVar[str] = "InvertedPendulum-v5"
    frame_skip: ClassVar[int] = 2

    xml_file: str = "inverted_pendulum.xml"
    reset_noise_scale: float = 0.01

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Cart position and pole angle, then their rates."""
        return layout.position_terms(model) + layout.velocity_terms(model)

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Uniform noise on positions and velocities."""
        return starts.uniform_start(model, rng, self.reset_noise_scale)

    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, 4)``."""
        return np.concatenate((state.qpos, state.qvel), axis=1)

    def measure(self, state: PhysicsState) -> FloatArray:
        """Nothing from before the step matters."""
        return terms.nothing(len(state.qpos))

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """One for each step that ends with the pole within 0.2 rad of upright; the episode ends otherwise."""
        finite = terms.every(np.isfinite(state.qpos)) & terms.every(np.isfinite(state.qvel))
        upright = finite & (np.abs(state.qpos[:, 1]) <= _MAX_ANGLE)
        return {"reward_survive": terms.only_where(upright, 1.0)}, ~upright
