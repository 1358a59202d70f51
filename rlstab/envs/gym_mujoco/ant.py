"""Ant-v5: make a four-legged robot walk forward."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.gym_mujoco import layout, starts, terms
from rlstab.envs.gym_mujoco.base import GymMujocoTask
from rlstab.envs.gym_mujoco.model_file import body_index
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm


@dataclass(frozen=True, kw_only=True)
class Ant(GymMujocoTask):
    """Gymnasium's ``Ant-v5``. Observed: ``qpos`` without x and y, ``qvel``, clipped contact forces: 105 numbers."""

    id: ClassVar[str] = "Ant-v5"
    frame_skip: ClassVar[int] = 5
    fields: ClassVar[tuple[str, ...]] = ("xpos", "cfrc_ext")

    xml_file: str = "ant.xml"
    forward_reward_weight: float = 1.0
    """Reward for each m/s of forward velocity of the main body."""
    ctrl_cost_weight: float = 0.5
    """Cost of the squared norm of the action."""
    contact_cost_weight: float = 5e-4
    """Cost of the squared norm of the clipped contact forces."""
    healthy_reward: float = 1.0
    """Reward of a step that ends healthy."""
    main_body: int | str = 1
    """Body whose motion is rewarded: index or name."""
    terminate_when_unhealthy: bool = True
    """Whether an unhealthy state ends the episode."""
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    """Closed interval for the torso's height (m)."""
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    """Limits on each component of the contact forces, in observation and cost (N m, N)."""
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True
    """Whether x and y are left out of the observation."""
    include_cfrc_ext_in_observation: bool = True
    """Whether contact forces are observed."""

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Positions, velocities, and each body's contact torque and force in the centre-of-mass frame."""
        layout_ = layout.position_terms(model, self._skip) + layout.velocity_terms(model)
        if self.include_cfrc_ext_in_observation:
            forces = layout.body_terms(model, "contact_force", 6, "N m, N")
            layout_ += layout.clipped(forces, self.contact_force_range)
        return layout_

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Uniform noise on positions, normal noise on velocities."""
        return starts.normal_velocity_start(model, rng, self.reset_noise_scale)

    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, 105)`` by default."""
        parts = [state.qpos[:, self._skip :], state.qvel]
        if self.include_cfrc_ext_in_observation:
            # The world body's six come first.
            parts.append(self._contact_forces(state)[:, 6:])
        return np.concatenate(parts, axis=1)

    def measure(self, state: PhysicsState) -> FloatArray:
        """Forward position of the main body, ``(n,)``, metres, at the last evaluated substep."""
        return state.field("xpos")[:, self._main_body, 0].copy()

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Reward for speed and health, less the costs of control and contact; ends when unhealthy."""
        healthy = self.is_healthy(state)
        forces = self._contact_forces(state)
        return {
            "reward_forward": (self.forward_reward_weight / dt) * (self.measure(state) - before),
            "reward_ctrl": -self.ctrl_cost_weight * terms.squared_norm(action),
            "reward_contact": -self.contact_cost_weight * terms.squared_norm(forces),
            "reward_survive": terms.only_where(healthy, self.healthy_reward),
        }, ~healthy if self.terminate_when_unhealthy else terms.never(len(healthy))

    def is_healthy(self, state: PhysicsState) -> BoolArray:
        """Whether the state is finite and the torso's height within its range, ``(n,)``."""
        height = state.qpos[:, 2]
        low, high = self.healthy_z_range
        finite = terms.every(np.isfinite(state.qpos)) & terms.every(np.isfinite(state.qvel))
        return finite & (low <= height) & (height <= high)

    def _contact_forces(self, state: PhysicsState) -> FloatArray:
        """Clipped contact torque and force on every body, ``(n, 6 nbody)``."""
        return terms.clip(terms.flat(state.field("cfrc_ext")), self.contact_force_range)

    @cached_property
    def _main_body(self) -> int:
        return body_index(self.model_path(), self.main_body)

    @property
    def _skip(self) -> int:
        return 2 * self.exclude_current_positions_from_observation
