"""A task: what is observed, rewarded and ends an episode, as pure functions of batched physics state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.physics.interface import BoolArray, FloatArray, Physics, PhysicsState


@dataclass(frozen=True)
class ObservationTerm:
    """One contiguous part of the observation vector, in order; the layout goes into the exported contract."""

    name: str
    dim: int
    unit: str = ""
    clip: tuple[float, float] | None = None
    """Limits that the observation keeps each entry in."""
    frame: str = ""
    """``world`` or ``base`` where a vector's components need one."""


@dataclass(frozen=True)
class Task(ABC):
    """Problem definition on top of any engine. Subclasses are frozen dataclasses whose fields are its constants.

    ``fields`` names the derived engine quantities the task reads besides ``qpos`` and ``qvel``; the engine computes
    and copies no others.
    """

    id: ClassVar[str]
    frame_skip: ClassVar[int]
    max_episode_steps: ClassVar[int] = 1000
    fields: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def make_physics(self, num_envs: int, fields: tuple[str, ...], num_threads: int | None) -> Physics:
        """Make the engine that steps ``num_envs`` worlds; ``fields`` are the derived quantities to be copied out."""

    @abstractmethod
    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Ordered layout of the observation; dims sum to its size."""

    @abstractmethod
    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw one world's start: ``qpos (nq,)``, ``qvel (nv,)``."""

    @abstractmethod
    def observe(self, state: PhysicsState) -> FloatArray:
        """Observation ``(n, obs_dim)`` of every world in ``state``."""

    def control(self, state: PhysicsState, action: FloatArray) -> FloatArray:
        """Actuator controls ``(n, nu)`` for an action ``(n, act_dim)``; by default the action itself."""
        del state
        return action

    @abstractmethod
    def measure(self, state: PhysicsState) -> FloatArray:
        """What `outcome` must know from before the step, ``(n, ...)``, as a copy that stepping does not change."""

    @abstractmethod
    def outcome(
        self, before: FloatArray, state: PhysicsState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Judge a step of length ``dt`` seconds.

        Returns
        -------
        terms, terminated
            Named reward terms ``(n,)``, whose sum is the reward; and whether the episode has ended, ``(n,)``.
        """
