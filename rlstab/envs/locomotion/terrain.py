"""Ground made of tiles: one static model for all worlds, a row for each difficulty and a column for each kind."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from rlstab.envs.locomotion.tiles import CELL, KINDS, SIZE, Box, Tile
from rlstab.envs.physics.interface import FloatArray, IntArray
from rlstab.errors import UserError, suggest
from rlstab.runs.seeding import generator

BORDER = 20.0
"""Width of the level border around the tiles, m: as far as a robot gets in an episode."""
_FINE = 0.05
"""Resolution at which the tops of boxes are looked up, m."""


@dataclass(frozen=True)
class Terrain:
    """Tiles of several kinds at growing difficulty.

    Parameters
    ----------
    kinds
        Names of `rlstab.envs.locomotion.tiles.KINDS`, a column along y each.
    levels
        Rows along x; row ``i`` has difficulty ``i / levels``.
    seed
        Of what is random in tiles.

    Raises
    ------
    UserError
        A kind is unknown, or there is no kind or level.
    """

    kinds: tuple[str, ...]
    levels: int
    seed: int = 0

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise UserError(f"there is no terrain '{kind}'{suggest(kind, KINDS)}; there are {', '.join(KINDS)}")
        if not self.kinds or self.levels < 1:
            raise UserError("a terrain needs at least one kind and one level")

    @functools.cached_property
    def tiles(self) -> tuple[tuple[Tile, ...], ...]:
        """By level, then kind."""
        return tuple(
            tuple(KINDS[kind](level / self.levels, generator(self.seed, "terrain", kind, level)) for kind in self.kinds)
            for level in range(self.levels)
        )

    @property
    def shape(self) -> tuple[float, float]:
        """Extent along x and y without the border, m."""
        return self.levels * SIZE, len(self.kinds) * SIZE

    def origin(self, level: int, kind: int) -> FloatArray:
        """Middle of a tile's surface in the world, ``(3,)`` m."""
        x, y = self._corner(level, kind)
        return np.array([x + SIZE / 2.0, y + SIZE / 2.0, self.tiles[level][kind].start_height])

    def height(self, place: FloatArray) -> FloatArray:
        """Height of the ground at points ``place (..., 2)`` of the world, m: 0 outside the tiles."""
        inside = (place + np.array(self.shape) / 2.0).clip(0.0, np.array(self.shape) - 1e-9)
        fine: IntArray = (inside / _FINE).astype(np.int64)
        smooth = _between(self.field_heights, inside[..., 1] / CELL, inside[..., 0] / CELL)
        outside = np.any(np.abs(place) > np.array(self.shape) / 2.0, axis=-1)
        return np.where(outside, 0.0, np.maximum(smooth, self._box_tops[fine[..., 1], fine[..., 0]]))

    @functools.cached_property
    def field_heights(self) -> FloatArray:
        """One height field over all tiles, rows along y, a sample every `CELL`."""
        cells = round(SIZE / CELL)
        heights = np.zeros((len(self.kinds) * cells + 1, self.levels * cells + 1))
        for level, row in enumerate(self.tiles):
            for kind, tile in enumerate(row):
                x, y = level * cells, kind * cells
                # Neighbours share an edge, where both are 0.
                heights[y : y + cells + 1, x : x + cells + 1] += tile.field_heights
        return heights

    @functools.cached_property
    def _box_tops(self) -> FloatArray:
        """Height of the highest box over every square of side `_FINE`, rows along y."""
        tops = np.full([round(extent / _FINE) for extent in reversed(self.shape)], -np.inf)
        for level, kind, box in self.boxes():
            x, y = level * SIZE + SIZE / 2.0, kind * SIZE + SIZE / 2.0
            columns = slice(round((x + box.x0) / _FINE), round((x + box.x1) / _FINE))
            rows = slice(round((y + box.y0) / _FINE), round((y + box.y1) / _FINE))
            tops[rows, columns] = np.maximum(tops[rows, columns], box.top)
        return tops

    def boxes(self) -> list[tuple[int, int, Box]]:
        """Every box with the level and the number of the kind of its tile."""
        return [
            (level, kind, box)
            for level, row in enumerate(self.tiles)
            for kind, tile in enumerate(row)
            for box in tile.boxes
        ]

    def centre(self, level: int, kind: int) -> FloatArray:
        """Middle of a tile at the border's height, ``(3,)`` m."""
        x, y = self._corner(level, kind)
        return np.array([x + SIZE / 2.0, y + SIZE / 2.0, 0.0])

    def _corner(self, level: int, kind: int) -> tuple[float, float]:
        x, y = self.shape
        return level * SIZE - x / 2.0, kind * SIZE - y / 2.0


def _between(samples: FloatArray, row: FloatArray, column: FloatArray) -> FloatArray:
    """Bilinear interpolation of ``samples`` at fractional indices."""
    top, left = row.astype(np.int64), column.astype(np.int64)
    down, right = row - top, column - left
    upper = samples[top, left] * (1.0 - right) + samples[top, left + 1] * right
    lower = samples[top + 1, left] * (1.0 - right) + samples[top + 1, left + 1] * right
    return upper * (1.0 - down) + lower * down
