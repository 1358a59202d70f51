"""Square pieces of ground, each of one kind and difficulty.

Heights are metres above the border that all tiles share. A robot starts in the middle, on a platform that is level
enough to stand on, and leaves it in any direction.

References
----------
legged_gym (Rudin et al. 2022, arXiv:2109.11978) and HIMLoco (Long et al. 2024, arXiv:2312.11460) for the kinds and how
they grow with difficulty; mjlab 1.6 for waves. Stairs, gaps and obstacles are boxes, because a height field would turn
their vertical faces into ramps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlstab.envs.physics.interface import FloatArray

SIZE = 8.0
"""Side of a tile, m."""
CELL = 0.1
"""Distance between samples of a height field, m."""
PLATFORM = 3.0
"""Side of the platform in the middle, m."""
TREAD = 0.3
"""Depth of a step of stairs, m."""
_HALF, _INNER = SIZE / 2.0, PLATFORM / 2.0
_CELLS = round(SIZE / CELL)
_GAP_DEPTH = 0.5
_GAP_PLATFORM = 2.0
_OBSTACLES = 20


@dataclass(frozen=True)
class Box:
    """An upright box: ``x0 < x < x1``, ``y0 < y < y1`` from the tile's middle, and its ``top``, metres."""

    x0: float
    x1: float
    y0: float
    y1: float
    top: float


@dataclass(frozen=True)
class Tile:
    """A piece of ground."""

    field_heights: FloatArray
    """Height field ``(81, 81)``, rows along y; its outermost samples lie on the border and are 0."""
    boxes: tuple[Box, ...] = ()
    """Boxes that stand out of the height field."""
    friction: float | None = None
    """Sliding friction that replaces the feet's own; for boxes."""
    start_height: float = 0.0
    """Height in the middle, m."""


Generator = Callable[[float, np.random.Generator], Tile]
"""Makes a tile from its difficulty, 0 to 1, and random numbers."""


def _level() -> FloatArray:
    return np.zeros((_CELLS + 1, _CELLS + 1))


def _from_edge() -> tuple[FloatArray, FloatArray, FloatArray]:
    """``x``, ``y`` of every sample from the middle, and how far it lies inside the platform-less rim, m."""
    x, y = np.meshgrid(*(np.linspace(-_HALF, _HALF, _CELLS + 1),) * 2)
    inwards = _HALF - np.maximum(np.abs(x), np.abs(y))
    return x, y, np.minimum(inwards, _HALF - _INNER)


def _below(depth: float) -> FloatArray:
    """A field that stays out of the way of boxes, ``depth`` metres down inside the tile's edge."""
    heights = _level()
    heights[1:-1, 1:-1] = -depth
    return heights


def _ending_at_border(heights: FloatArray) -> FloatArray:
    heights[[0, -1], :], heights[:, [0, -1]] = 0.0, 0.0
    return heights


def flat(difficulty: float, rng: np.random.Generator) -> Tile:
    """Level ground."""
    del difficulty, rng
    return Tile(_level())


def slope(difficulty: float, rng: np.random.Generator) -> Tile:
    """A pyramid whose sides rise by 0.4 times the difficulty."""
    del rng
    heights = 0.4 * difficulty * _from_edge()[2]
    return Tile(heights, start_height=float(heights.max()))


def rough(difficulty: float, rng: np.random.Generator) -> Tile:
    """The slope with bumps of up to 1 cm, and 7 cm more at full difficulty, every 0.2 m."""
    heights = 0.4 * difficulty * _from_edge()[2]
    bumps = rng.uniform(-1.0, 1.0, (_CELLS // 2 + 1,) * 2) * (0.01 + 0.07 * difficulty)
    # Linear in between: a sample on every second cell, then the mean of neighbours.
    fine = np.zeros_like(heights)
    fine[::2, ::2] = bumps
    fine[1::2, ::2] = 0.5 * (bumps[1:] + bumps[:-1])
    fine[:, 1::2] = 0.5 * (fine[:, :-2:2] + fine[:, 2::2])
    heights = _ending_at_border(heights + fine)
    return Tile(heights, start_height=float(heights[_CELLS // 2, _CELLS // 2]))


def wave(difficulty: float, rng: np.random.Generator) -> Tile:
    """Hills of up to 0.2 m, 2 m apart in both directions."""
    del rng
    x, y, _ = _from_edge()
    hills = (np.sin(4.0 * np.pi * x / SIZE) * np.sin(4.0 * np.pi * y / SIZE)) ** 2
    return Tile(_ending_at_border(0.2 * difficulty * hills))


def rise(difficulty: float) -> float:
    """Height of a step of stairs, m."""
    return 0.05 + 0.18 * difficulty


def stairs_down(difficulty: float, rng: np.random.Generator) -> Tile:
    """A stepped pyramid: the robot starts on top."""
    del rng
    step = rise(difficulty)
    sides = _step_sides()
    boxes = tuple(Box(-side, side, -side, side, step * (index + 1)) for index, side in enumerate(sides))
    return Tile(_level(), boxes, start_height=step * len(sides))


def stairs_up(difficulty: float, rng: np.random.Generator) -> Tile:
    """A stepped pit: the robot starts at its bottom."""
    del rng
    step = rise(difficulty)
    sides = (_HALF, *_step_sides())
    depth = step * (len(sides) - 1)
    boxes: list[Box] = []
    for index, (outer, inner) in enumerate(itertools.pairwise(sides)):
        boxes += _frame(outer, inner, -step * index)
    bottom = sides[-1]
    boxes.append(Box(-bottom, bottom, -bottom, bottom, -depth))
    return Tile(_below(depth + 0.1), tuple(boxes), start_height=-depth)


def discrete(difficulty: float, rng: np.random.Generator) -> Tile:
    """Low blocks here and there: 5 cm high, and 10 cm more at full difficulty."""
    boxes: list[Box] = []
    while len(boxes) < _OBSTACLES:
        width, length = rng.choice([0.4, 0.8, 1.2, 1.6], 2)
        x, y = np.round(rng.uniform(-_HALF + 1.0, _HALF - 1.0, 2) / CELL) * CELL
        if max(abs(x) - width / 2.0, abs(y) - length / 2.0) > 0.5:  # Not where the robot starts.
            top = (0.05 + 0.1 * difficulty) * rng.choice([0.5, 1.0])
            boxes.append(Box(x - width / 2.0, x + width / 2.0, y - length / 2.0, y + length / 2.0, float(top)))
    return Tile(_level(), tuple(boxes))


def gap(difficulty: float, rng: np.random.Generator) -> Tile:
    """A trench around the platform, 0.1 m wide and 0.6 m more at full difficulty, half a metre deep."""
    del rng
    inner = _GAP_PLATFORM / 2.0
    outer = inner + 0.1 + 0.6 * difficulty
    return Tile(_below(_GAP_DEPTH), (Box(-inner, inner, -inner, inner, 0.0), *_frame(_HALF, outer, 0.0)))


def slippery(difficulty: float, rng: np.random.Generator) -> Tile:
    """Level ground with a sliding friction of 0.35, and 0.15 less at full difficulty."""
    del rng
    return Tile(_below(0.1), (Box(-_HALF, _HALF, -_HALF, _HALF, 0.0),), friction=0.35 - 0.15 * difficulty)


KINDS: dict[str, Generator] = {
    "flat": flat,
    "slope": slope,
    "rough": rough,
    "stairs_up": stairs_up,
    "stairs_down": stairs_down,
    "discrete": discrete,
    "wave": wave,
    "gap": gap,
    "slippery": slippery,
}


def _step_sides() -> tuple[float, ...]:
    """Half sides of the steps, from the lowest of a pyramid to its platform."""
    steps = int((_HALF - _INNER) / TREAD + 1e-9)
    return tuple(_INNER + TREAD * index for index in range(steps, -1, -1))


def _frame(outer: float, inner: float, top: float) -> tuple[Box, ...]:
    """What lies between two squares of half sides ``outer`` and ``inner``."""
    return (
        Box(-outer, outer, inner, outer, top),
        Box(-outer, outer, -outer, -inner, top),
        Box(inner, outer, -inner, inner, top),
        Box(-outer, -inner, -inner, inner, top),
    )
