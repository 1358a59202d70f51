"""Go1VelocityRough: velocity commands on slopes, stairs, obstacles and slippery ground, harder for who gets far."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlstab.envs.carried import Carried, WorldState
from rlstab.envs.locomotion import frames
from rlstab.envs.locomotion.terrain import Terrain
from rlstab.envs.locomotion.tiles import SIZE
from rlstab.envs.locomotion.velocity import Go1Velocity
from rlstab.envs.physics.interface import FloatArray
from rlstab.envs.task import Numbers, ObservationTerm
from rlstab.errors import UserError

SCAN = (17, 11)
"""Points of the height scan: forward, sideways."""
_SPACING = 0.1
"""Between them, m."""
_START_SPREAD = 0.5
"""Robots start at most this far from the middle of their tile along x and y, m."""
_SCAN_RANGE = (-1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Go1VelocityRough(Go1Velocity):
    """`Go1Velocity` on terrain. Observed: its 48 numbers and, unless switched off, 187 heights around the robot.

    Each world belongs to one kind of ground for good and begins an episode in the middle of a tile. It moves up a level
    when it got off its tile, and down when it went less than half as far along its commands as they asked for in a
    whole episode. Above the last level it goes to any.

    References
    ----------
    Rudin et al. 2022 (arXiv:2109.11978) for the curriculum; HIMLoco for kinds and proportions. Distance is counted
    along the commands, since here they change their direction within an episode.
    """

    id: ClassVar[str] = "rlstab/Go1VelocityRough-v0"

    terrains: str = "slope=0.1,rough=0.2,stairs_up=0.3,stairs_down=0.3,discrete=0.1"
    """Kinds of ground and the share of worlds on each: ``flat``, ``slope``, ``rough``, ``stairs_up``, ``stairs_down``,
    ``discrete``, ``wave``, ``gap``, ``slippery``."""
    levels: int = 10
    """Levels of difficulty."""
    start_levels: int = 6
    """The first episode is on one of the lowest so many."""
    curriculum: bool = True
    """Whether worlds change their level; otherwise each stays at its first."""
    terrain_seed: int = 0
    """Of bumps and obstacles."""
    height_scan: bool = True
    """Whether heights around the robot are observed."""
    max_forward: float = 1.0
    max_sideways: float = 0.5
    max_turning: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.start_levels <= self.levels:
            raise UserError(f"{self.id}: start_levels must be 1 to levels ({self.levels}), got {self.start_levels}")
        _ = self.terrain

    @functools.cached_property
    def shares(self) -> dict[str, float]:
        """Share of worlds on each kind of ground; sums to 1.

        Raises
        ------
        UserError
            ``terrains`` can't be read.
        """
        shares: dict[str, float] = {}
        for part in self.terrains.split(","):
            name, _, value = part.strip().partition("=")
            try:
                shares[name] = float(value or 1.0)
            except ValueError as error:
                raise UserError(f"{self.id}: terrains are written as 'slope=0.5,rough=0.5', not '{part}'") from error
            if not 0.0 < shares[name] < math.inf:
                raise UserError(f"{self.id}: the share of terrain '{name}' must be above 0, got {value}")
        total = sum(shares.values())
        return {name: share / total for name, share in shares.items()}

    @functools.cached_property
    def terrain(self) -> Terrain:
        """The ground of all worlds."""
        return Terrain(tuple(self.shares), self.levels, self.terrain_seed)

    def add_ground(self, spec: Any) -> None:
        """Add all tiles."""
        from rlstab.envs.locomotion.terrain_model import add_terrain

        add_terrain(spec, self.terrain)

    def ground_height(self, state: WorldState, place: FloatArray) -> FloatArray:
        """Height of the terrain, ``(n, k)`` metres, under points ``place (n, k, 2)``."""
        del state
        return self.terrain.height(place)

    def carried(self, model: Any) -> Mapping[str, tuple[int, ...]]:
        """Besides those of `Go1Velocity`: where the world is in the curriculum, and how far it got and should have."""
        own = dict.fromkeys(("episodes", "level", "kind", "farthest", "progress", "asked", "steps"), ())
        return {**super().carried(model), **own, "origin": (3,)}

    def observation_terms(self, model: Any) -> tuple[ObservationTerm, ...]:
        """Those of `Go1Velocity`, then heights of the base above the ground less its height at rest."""
        scan = ObservationTerm("height_scan", SCAN[0] * SCAN[1], "m", clip=_SCAN_RANGE)
        return super().observation_terms(model) + ((scan,) if self.height_scan else ())

    def observe(self, state: WorldState) -> FloatArray:
        """Observation ``(n, 235)``, or ``(n, 48)`` without heights."""
        seen = super().observe(state)
        return np.concatenate((seen, self._scan(state)), axis=1) if self.height_scan else seen

    def begin(self, model: Any, carried: Carried, world: int, numbers: Numbers) -> tuple[FloatArray, FloatArray]:
        """Choose the tile, and start in its middle."""
        self._choose_tile(carried, world, numbers)
        for name in ("farthest", "progress", "asked", "steps"):
            carried[name][...] = 0.0
        carried["origin"][...] = self.terrain.origin(int(carried["level"]), int(carried["kind"]))
        qpos, qvel = super().begin(model, carried, world, numbers)
        qpos[:2] = carried["origin"][:2] + numbers(world, "place").uniform(-_START_SPREAD, _START_SPREAD, 2)
        # On bumps, high enough for the foot that stands highest.
        feet = qpos[:2] + _UNDER_FEET
        qpos[2] += self.terrain.height(feet).max()
        return qpos, qvel

    def advance(
        self, state: WorldState, commanded: FloatArray, action: FloatArray, numbers: Numbers, dt: float
    ) -> None:
        """Count how far the robot got and should have got, then as `Go1Velocity`."""
        carried, qpos = state.carried, state.qpos
        wanted = carried["command"][:, :2]
        speed = np.linalg.norm(wanted, axis=1)
        velocity = frames.to_body(qpos[:, 3:7], state.qvel[:, :3])[:, :2]
        carried["progress"] += dt * np.vecdot(velocity, wanted) / np.maximum(speed, 1e-6)
        carried["asked"] += dt * speed
        carried["steps"] += 1.0
        away = np.abs(qpos[:, :2] - carried["origin"][:, :2]).max(axis=1)
        carried["farthest"][...] = np.maximum(carried["farthest"], away)
        super().advance(state, commanded, action, numbers, dt)

    def _choose_tile(self, carried: Carried, world: int, numbers: Numbers) -> None:
        if not carried["episodes"]:
            rng = numbers(world, "terrain")
            carried["level"][...] = rng.integers(self.start_levels)
            carried["kind"][...] = rng.choice(len(self.shares), p=list(self.shares.values()))
        elif self.curriculum and carried["steps"] > 0:
            level = int(carried["level"]) + self.promotion(carried)
            if level >= self.levels:
                level = int(numbers(world, "terrain").integers(self.levels))
            carried["level"][...] = max(level, 0)
        carried["episodes"] += 1.0

    def promotion(self, carried: Carried) -> int:
        """By how many levels one world's row moves after an episode: 1, 0 or -1."""
        if carried["farthest"] > SIZE / 2.0:
            return 1
        # What a whole episode at the mean commanded speed would have asked for: to fall early is no excuse.
        asked = float(carried["asked"] / carried["steps"]) * self.max_episode_steps
        return -1 if carried["progress"] < 0.5 * asked else 0

    def _scan(self, state: WorldState) -> FloatArray:
        """Height of the base above points around it, less that in the reference pose on level ground, ``(n, 187)``."""
        facing = frames.forward(state.qpos[:, 3:7])[:, :2]
        facing = facing / np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-6)
        left = np.stack((-facing[:, 1], facing[:, 0]), axis=1)
        points = state.qpos[:, None, :2] + _GRID[:, :1] * facing[:, None] + _GRID[:, 1:] * left[:, None]
        above = state.qpos[:, 2:3] - self.kit.height - self.ground_height(state, points)
        return np.clip(above, *_SCAN_RANGE)


def _grid() -> FloatArray:
    """Points of the scan from the base, ``(187, 2)``: forward, left; the foremost first, in each row from left."""
    forward, sideways = (_SPACING * np.arange(count // 2, -count // 2, -1.0) for count in SCAN)
    return np.stack(np.meshgrid(forward, sideways, indexing="ij"), axis=-1).reshape(-1, 2)


_GRID = _grid()
_UNDER_FEET = np.array([(x, y) for x in (-0.25, 0.0, 0.25) for y in (-0.15, 0.0, 0.15)])
"""Where feet may be from the base whichever way it faces, about, m."""
