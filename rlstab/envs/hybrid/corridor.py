"""Corridors for the hopper: segments with a floor, a ceiling and a speed, and the generator of random ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.hybrid.arrays import Array, namespace, taken
from rlstab.errors import UserError

MOST_SEGMENTS = 5
PARTS = 4
"""Length (m), floor (m), ceiling (m), speed (m/s) of each segment."""
_HEAD_ROOM, _STEP_ROOM = 0.1, 1.1


@dataclass(frozen=True, eq=False)
class Corridor:
    """Segments one after another, the first from x = 0; what lies before belongs to it, what lies beyond to the last.

    Raises
    ------
    UserError
        There are none or too many, a length is not positive, or a ceiling is not above its floor.
    """

    segments: NDArray[np.float64]
    """``(k, 4)``, see `PARTS`."""

    def __post_init__(self) -> None:
        rows = np.asarray(self.segments, np.float64)
        if rows.ndim != 2 or rows.shape[1] != PARTS or not 1 <= len(rows) <= MOST_SEGMENTS:
            raise UserError(f"a corridor has 1 to {MOST_SEGMENTS} rows of {PARTS} numbers, not shape {rows.shape}")
        if not (rows[:, 0] > 0.0).all() or not (rows[:, 2] > rows[:, 1]).all():
            raise UserError("each segment of a corridor needs a positive length and a ceiling above its floor")
        object.__setattr__(self, "segments", rows)

    @property
    def length(self) -> float:
        """Of all segments, m."""
        return float(self.segments[:, 0].sum())

    def configuration(self) -> NDArray[np.float64]:
        """Configuration ``(20,)`` of a `Pogobot`; missing segments continue the last one."""
        missing = MOST_SEGMENTS - len(self.segments)
        return np.vstack([self.segments, np.repeat(self.segments[-1:], missing, 0)]).ravel()


def flat(n: int = 1, speed: float = 0.0) -> NDArray[np.float64]:
    """Configuration ``(n, 20)`` without steps, with the floor at 0 and no ceiling to speak of."""
    return np.tile(Corridor(np.array([[1e6, 0.0, 1e6, speed]])).configuration(), (n, 1))


def random_corridor(rng: np.random.Generator) -> tuple[Corridor, int]:
    """Draw one of the benchmark's corridors.

    Drawn in this order until it can be passed: a step ``de`` in [0.5, 1] m, a speed in [0.5, 1.5] m/s, a ceiling in
    [1.5, 2] m, the kind (0 level, 1 a step up, 2 a step down, 3 a table to jump over), a factor in [0.8, 1.2] for every
    length.

    Returns
    -------
    corridor, kind
    """
    while True:
        de, speed, height = rng.uniform(0.5, 1.0), rng.uniform(0.5, 1.5), rng.uniform(1.5, 2.0)
        kind = int(rng.integers(4))
        high = height + 1.5 * de
        level = [5.0, 0.0, height, speed]
        rows = [
            [level] * 4,
            [level, [5.0, 0.0, high, speed], *[[5.0, de, high, speed]] * 2],
            [level, [5.0, -de, height, speed], *[[5.0, -de, height - 0.5 * de, speed]] * 2],
            [level, [5.0, 0.0, high, speed], [3.0, 2.0 * de, high, 1.5 * speed], [5.0, 0.0, high, speed], level],
        ][kind]
        segments = np.array(rows)
        segments[:, 0] *= rng.uniform(0.8, 1.2, len(segments))
        floors = np.maximum(segments[:-1, 1], segments[1:, 1])
        ceilings = np.minimum(segments[:-1, 2], segments[1:, 2])
        if (floors + _STEP_ROOM < ceilings - _HEAD_ROOM).all():
            return Corridor(segments), kind


def target_height(floor: Array, ceiling: Array) -> Array:
    """Height of the apex to aim at in a segment, m above zero: well off the floor, below the ceiling."""
    return np.minimum(np.maximum(floor + 1.4, 0.6 * ceiling + 0.4 * floor), ceiling)


def borders(configuration: Array) -> Array:
    """Where the segments after the first begin, ``(n, 4)`` m."""
    return namespace(configuration).cumsum(configuration[:, ::PARTS], 1)[:, :-1]


def segment_at(configuration: Array, x: Array) -> Array:
    """Index of the segment over which ``x (n,)`` is: ``(n,)`` int64."""
    return (x[:, None] >= borders(configuration)).sum(1)


def part_at(configuration: Array, index: Array, part: int) -> Array:
    """One of `PARTS` of segment ``index (n,)``: ``(n,)``."""
    return taken(configuration, PARTS * index + part)


def floor_at(configuration: Array, x: Array) -> Array:
    """Height of the floor under ``x (n,)``, m."""
    return part_at(configuration, segment_at(configuration, x), 1)


def ceiling_at(configuration: Array, x: Array) -> Array:
    """Height of the ceiling over ``x (n,)``, m."""
    return part_at(configuration, segment_at(configuration, x), 2)
