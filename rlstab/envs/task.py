"""A task: what is observed, rewarded and ends an episode, as pure functions of batched physics state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.carried import Carried, WorldState
from rlstab.envs.physics.interface import BoolArray, FloatArray, Physics

Numbers = Callable[[int, str], np.random.Generator]
"""Random numbers of a world's present episode: each purpose has a stream of its own, which begins anew with every
call. The generator serves until the next call. A draw at a later step is given a purpose that says which, as in
``"command/3"``, so that nothing but a count has to be remembered for it."""


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

    def carried(self, model: Any) -> Mapping[str, tuple[int, ...]]:
        """Shape of everything that a world carries besides physics, by name; see `begin` and `advance`."""
        del model
        return {}

    @abstractmethod
    def make_physics(self, num_envs: int, fields: tuple[str, ...], num_threads: int | None) -> Physics:
        """Make the engine that steps ``num_envs`` worlds; ``fields`` are the derived quantities to be copied out."""

    def make_renderer(self, model: Any, width: int, height: int) -> Any:
        """Make what draws a world: ``frame(qpos, qvel)`` gives ``(height, width, 3)``; by default MuJoCo's.

        Raises
        ------
        UserError
            No rendering library works; the message names the packages.
        """
        from rlstab.envs.rendering import Renderer

        return Renderer(model, width, height)

    @abstractmethod
    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Ordered layout of the observation; dims sum to its size."""

    @abstractmethod
    def initial_state(self, model: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw one world's start: ``qpos (nq,)``, ``qvel (nv,)``."""

    def begin(self, model: Any, carried: Carried, world: int, numbers: Numbers) -> tuple[FloatArray, FloatArray]:
        """Begin an episode of one world: its ``qpos (nq,)``, ``qvel (nv,)``; by default `initial_state`.

        ``carried`` are its rows as the last episode left them, zeros before the first, to be written into.
        """
        del carried
        return self.initial_state(model, numbers(world, "start"))

    @abstractmethod
    def observe(self, state: WorldState) -> FloatArray:
        """Observation ``(n, obs_dim)`` of every world in ``state``."""

    def control(self, state: WorldState, action: FloatArray) -> FloatArray:
        """Actuator controls ``(n, nu)`` for an action ``(n, act_dim)``; by default the action itself."""
        del state
        return action

    @abstractmethod
    def measure(self, state: WorldState) -> FloatArray:
        """What `outcome` must know from before the step, ``(n, ...)``, as a copy that stepping does not change."""

    @abstractmethod
    def outcome(
        self, before: FloatArray, state: WorldState, action: FloatArray, dt: float
    ) -> tuple[dict[str, FloatArray], BoolArray]:
        """Judge a step of length ``dt`` seconds; ``action`` is what reached the robot.

        Returns
        -------
        terms, terminated
            Named reward terms ``(n,)``, whose sum is the reward; and whether the episode has ended, ``(n,)``.
        """

    def advance(
        self, state: WorldState, commanded: FloatArray, action: FloatArray, numbers: Numbers, dt: float
    ) -> None:
        """Bring what is carried up to date, in place, after a step was judged and before the next observation.

        ``commanded (n, act_dim)`` is what the policy chose, ``action`` what of it reached the robot.
        """
        del state, commanded, action, numbers, dt
