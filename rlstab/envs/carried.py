"""What a task sees of its worlds: the engine's state, and what it carries along an episode itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlstab.envs.physics.interface import FloatArray, IntArray, Physics, PhysicsState

Carried = dict[str, FloatArray]
"""Arrays by name, one row a world (or one world's row): a command, the last action, how long a foot is in the air."""


@dataclass(frozen=True)
class WorldState:
    """A physics state (see `PhysicsState`) together with what the task carries."""

    physics: PhysicsState
    carried: Carried

    @property
    def qpos(self) -> FloatArray:
        """Generalised positions, ``(n, nq)``."""
        return self.physics.qpos

    @property
    def qvel(self) -> FloatArray:
        """Generalised velocities, ``(n, nv)``."""
        return self.physics.qvel

    def field(self, name: str) -> FloatArray:
        """A derived quantity, ``(n, ...)``."""
        return self.physics.field(name)

    def forget(self) -> None:
        """Carry zeros, as before the first episode."""
        for array in self.carried.values():
            array[...] = 0.0


def nothing_yet(shapes: Mapping[str, tuple[int, ...]], num_envs: int) -> Carried:
    """Zeros for every world, of the shapes that `Task.carried` gives for one."""
    return {name: np.zeros((num_envs, *shape)) for name, shape in shapes.items()}


def row_of(carried: Carried, world: int) -> Carried:
    """One world's part, to be written into."""
    return {name: array[world, ...] for name, array in carried.items()}


def taken(physics: Physics, carried: Carried, worlds: IntArray) -> WorldState:
    """A copy of the named worlds' state."""
    return WorldState(physics.take(worlds), {name: array[worlds] for name, array in carried.items()})
