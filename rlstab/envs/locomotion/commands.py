"""Velocity commands: forward and sideways speed and turning rate, which change at random moments of an episode.

Everything about a world's commands follows from (seed, world, episode) and the number of changes so far, so that an
interrupted episode goes on with the same ones and nothing but that number is saved.

References
----------
MuJoCo Playground's Go1 joystick task: law, ranges and rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlstab.envs.carried import Carried
from rlstab.envs.physics.interface import FloatArray
from rlstab.envs.task import Numbers

SHAPES: Mapping[str, tuple[int, ...]] = {"command": (3,), "command_wait": (), "command_changes": ()}
"""What a world carries: the command, control steps until it changes, and changes so far in its episode."""


@dataclass(frozen=True)
class CommandLaw:
    """How commands are drawn.

    The first one is uniform in the box. At a change each component is, with probability one half, drawn anew from the
    box and then set to zero unless kept.
    """

    limits: tuple[float, float, float]
    """Largest size of each component: m/s forward, m/s to the left, rad/s to the left."""
    kept: tuple[float, float, float]
    """Probability of each new component not to be set to zero."""
    mean_wait_s: float
    """Mean time between changes, exponentially distributed, seconds."""

    def begin(self, carried: Carried, world: int, numbers: Numbers, dt: float) -> None:
        """Write the first command of an episode into one world's row."""
        rng = numbers(world, "command/0")
        carried["command"][...] = self._uniform(rng)
        carried["command_wait"][...] = self._wait(rng, dt)
        carried["command_changes"][...] = 0.0

    def advance(self, carried: Carried, numbers: Numbers, dt: float) -> None:
        """Let a control step pass in all worlds, and change the commands whose time has come."""
        wait = carried["command_wait"]
        wait -= 1.0
        for world in np.flatnonzero(wait <= 0.0).tolist():
            carried["command_changes"][world] += 1.0
            rng = numbers(world, f"command/{int(carried['command_changes'][world])}")
            new = self._uniform(rng) * (rng.random(3) < self.kept)
            carried["command"][world] = np.where(rng.random(3) < 0.5, new, carried["command"][world])
            wait[world] = self._wait(rng, dt)

    def _uniform(self, rng: np.random.Generator) -> FloatArray:
        return np.array(self.limits) * rng.uniform(-1.0, 1.0, 3)

    def _wait(self, rng: np.random.Generator, dt: float) -> float:
        return max(1.0, round(rng.exponential(self.mean_wait_s) / dt))
