"""Humanoid-v5: make a humanoid walk forward without falling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.gym_mujoco import layout, starts, terms
from rlstab.envs.gym_mujoco.base import GymMujocoTask
from rlstab.envs.physics.interface import BoolArray, FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm

_FREE_DOFS = 6


@dataclass(frozen=True, kw_only=True)
class Humanoid(GymMujocoTask):
    """Gymnasium's ``Humanoid-v5``.

    Observed: ``qpos`` without x and y, ``qvel``, inertias, body velocities, actuator and contact forces: 348 numbers.
    """

    id: ClassVar[str] = "Humanoid-v5"
    frame_skip: ClassVar[int] = 5
    fields: ClassVar[tuple[str, ...]] = ("subtree_com", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")

    xml_file: str = "humanoid.xml"
    forward_reward_weight: float = 1.25
    """Reward for each m/s of forward velocity of the centre of mass."""
    ctrl_cost_weight: float = 0.1
    """Cost of the squared norm of the action."""
    contact_cost_weight: float = 5e-7
    """Cost of the squared norm of the contact forces."""
    contact_cost_range: tuple[float, float] = (float("-inf"), 10.0)
    """Limits on the contact cost."""
    healthy_reward: float = 5.0
    """Reward of a step that ends healthy."""
    terminate_when_unhealthy: bool = True
    """Whether an unhealthy state ends the episode."""
    healthy_z_range: tuple[float, float] = (1.0, 2.0)
    """Open interval for the torso's height (m)."""
    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    """Whether x and y are left out of the observation."""
    include_cinert_in_observation: bool = True
    """Whether the bodies' inertias about the centre of mass are observed."""
    include_cvel_in_observation: bool = True
    """Whether the bodies' velocities at the centre of mass are observed."""
    include_qfrc_actuator_in_observation: bool = True
    """Whether the actuators' joint torques are observed."""
    include_cfrc_ext_in_observation: bool = True
    """Whether contact forces are observed."""

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Positions, velocities, then what the ``include_...`` switches name, body by body."""
        layout_ = layout.position_terms(model, self._skip) + layout.velocity_terms(model)
        if self.include_cinert_in_observation:
            # Six of the inertia matrix, three of mass times offset, mass.
            layout_ += layout.body_terms(model, "inertia", 10, "kg m^2, kg m, kg")
        if self.include_cvel_in_observation:
            layout_ += layout.body_terms(model, "body_velocity", 6, "rad/s, m/s")
        if self.include_qfrc_actuator_in_observation:
            layout_ += layout.force_terms(model, "actuator_force", skip=_FREE_DOFS)
        if self.include_cfrc_ext_in_observation:
            layout_ += layout.body_terms(model, "contact_force", 6, "N m, N")
        return layout_

    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Uniform noise on positions and velocities."""
        return starts.uniform_start(model, rng, self.reset_noise_scale)

    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, 348)`` by default; the world body's rows are left out."""
        parts = [state.qpos[:, self._skip :], state.qvel]
        if self.include_cinert_in_observation:
            parts.append(terms.flat(state.field("cinert"))[:, 10:])
        if self.include_cvel_in_observation:
            parts.append(terms.flat(state.field("cvel"))[:, 6:])
        if self.include_qfrc_actuator_in_observation:
            parts.append(state.field("qfrc_actuator")[:, _FREE_DOFS:])
        if self.include_cfrc_ext_in_observation:
            parts.append(terms.flat(state.field("cfrc_ext"))[:, 6:])
        return np.concatenate(parts, axis=1)

    def measure(self, state: PhysicsState) -> FloatArray:
        """Forward position of the centre of mass, ``(n,)``, metres, at the last evaluated substep."""
        return state.field("subtree_com")[:, 0, 0].copy()

    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Reward for speed and health, less the costs of control and contact; ends when unhealthy."""
        healthy = terms.between(state.qpos[:, 2], self.healthy_z_range)
        contact_cost = self.contact_cost_weight * terms.squared_norm(terms.flat(state.field("cfrc_ext")))
        return {
            "reward_survive": terms.only_where(healthy, self.healthy_reward),
            "reward_forward": (self.forward_reward_weight / dt) * (self.measure(state) - before),
            "reward_ctrl": -self.ctrl_cost_weight * terms.squared_norm(action),
            "reward_contact": -terms.clip(contact_cost, self.contact_cost_range),
        }, ~healthy if self.terminate_when_unhealthy else terms.never(len(healthy))

    @property
    def _skip(self) -> int:
        return 2 * self.exclude_current_positions_from_observation
