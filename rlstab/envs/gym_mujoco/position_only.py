"""Walking robots whose velocities are hidden: how fast they move must be found out from where they were before.

Dynamics, rewards, ends and starts are those of the tasks they derive from; only the observation is shorter. Such tasks
are the usual test of memory in continuous control.

References
----------
Ni, Eysenbach, Salakhutdinov (2022). Recurrent model-free RL can be a strong baseline for many POMDPs. ICML
(arXiv 2110.05038): the environments named ``-P`` there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.gym_mujoco import layout
from rlstab.envs.gym_mujoco.ant import Ant
from rlstab.envs.gym_mujoco.half_cheetah import HalfCheetah
from rlstab.envs.gym_mujoco.hopper import Hopper
from rlstab.envs.gym_mujoco.walker2d import Walker2d
from rlstab.envs.physics.interface import FloatArray, PhysicsState
from rlstab.envs.task import ObservationTerm


@dataclass(frozen=True, kw_only=True)
class HopperP(Hopper):
    """``Hopper-v5`` without velocities. Observed: ``qpos`` without x: 5 numbers."""

    id: ClassVar[str] = "rlstab/HopperP-v0"

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Joint positions."""
        return layout.without_velocities(super().observation_terms(model))

    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, 5)``, or ``(n, 6)`` with x."""
        return _positions(state, int(self.exclude_current_positions_from_observation))


@dataclass(frozen=True, kw_only=True)
class Walker2dP(Walker2d):
    """``Walker2d-v5`` without velocities. Observed: ``qpos`` without x: 8 numbers."""

    id: ClassVar[str] = "rlstab/Walker2dP-v0"

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Joint positions."""
        return layout.without_velocities(super().observation_terms(model))

    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, 8)``, or ``(n, 9)`` with x."""
        return _positions(state, int(self.exclude_current_positions_from_observation))


@dataclass(frozen=True, kw_only=True)
class HalfCheetahP(HalfCheetah):
    """``HalfCheetah-v5`` without velocities. Observed: ``qpos`` without x: 8 numbers. It never terminates."""

    id: ClassVar[str] = "rlstab/HalfCheetahP-v0"

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Joint positions."""
        return layout.without_velocities(super().observation_terms(model))

    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, 8)``, or ``(n, 9)`` with x."""
        return _positions(state, int(self.exclude_current_positions_from_observation))


@dataclass(frozen=True, kw_only=True)
class AntP(Ant):
    """``Ant-v5`` without velocities. Observed: ``qpos`` without x and y: 13 numbers."""

    id: ClassVar[str] = "rlstab/AntP-v0"

    include_cfrc_ext_in_observation: bool = False
    """Whether contact forces are observed. Here, unlike in ``Ant-v5``, not unless asked for: 91 numbers then."""

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Positions, and each body's contact torque and force where asked for."""
        return layout.without_velocities(super().observation_terms(model))

    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, 13)`` by default."""
        positions = _positions(state, self._skip)
        if not self.include_cfrc_ext_in_observation:
            return positions
        # The world body's six come first.
        return np.concatenate((positions, self._contact_forces(state)[:, 6:]), axis=1)


def _positions(state: PhysicsState, skip: int) -> FloatArray:
    """All of ``qpos`` but the first ``skip``, as a copy that stepping does not change."""
    return state.qpos[:, skip:].copy()
