"""What the tasks on hybrid systems have in common: their engine, their pictures, and states with names."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from rlstab.envs.hybrid.system import HybridState, HybridSystem
from rlstab.envs.physics.hybrid_engine import HybridPhysics, unpack
from rlstab.envs.physics.interface import FloatArray, PhysicsState
from rlstab.envs.task import Task
from rlstab.errors import UserError

if TYPE_CHECKING:
    from rlstab.envs.hybrid.rendering import PlotRenderer


class HybridTask(Task, ABC):
    """A task whose worlds are a `HybridSystem`; subclasses are frozen dataclasses, like every task."""

    frame_skip: ClassVar[int] = 1
    control_period_s: ClassVar[float] = 0.01

    @abstractmethod
    def make_system(self) -> HybridSystem:
        """Make what moves."""

    @functools.cached_property
    def system(self) -> Any:
        """What moves: the `HybridSystem` of this task's constants."""
        return self.make_system()

    @property
    @abstractmethod
    def control_range(self) -> FloatArray:
        """``(nu, 2)``: limits of the controls."""

    @abstractmethod
    def draw(self, axes: Any, state: HybridState, trail: FloatArray) -> None:
        """Draw one world into matplotlib's ``axes``.

        Parameters
        ----------
        state
            One world.
        trail
            ``(k, 2)``: what `trail` gave at the pictures of this episode so far, this one included.
        """

    def trail(self, state: HybridState) -> FloatArray:
        """Points ``(k, 2)`` that one world adds to the trail in its pictures."""
        return state.x[:1, :2]

    def episode_of(self, state: HybridState) -> FloatArray:
        """What tells one world's episode from another: the trail begins anew where it changes."""
        return state.configuration[0]

    def make_physics(self, num_envs: int, fields: tuple[str, ...], num_threads: int | None) -> HybridPhysics:
        """Step the system."""
        del num_threads
        if fields:
            raise UserError(f"a hybrid system has no derived quantity '{fields[0]}'")
        return HybridPhysics(self.system, num_envs, self.control_period_s, self.control_range)

    def make_renderer(self, model: Any, width: int, height: int) -> PlotRenderer:
        """Draw with matplotlib."""
        from rlstab.envs.hybrid.rendering import PlotRenderer

        del model
        return PlotRenderer(self, width, height)

    def situation(self, state: PhysicsState) -> HybridState:
        """State, mode and configuration of the worlds, as copies."""
        return unpack(self.system, state.qpos)
