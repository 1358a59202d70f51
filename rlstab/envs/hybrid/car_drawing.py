"""A road and a car from above, in matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlstab.envs.hybrid.rendering import ACCENT, ALARM, INK, MUTED
from rlstab.envs.hybrid.road import DRY, HALF_WIDTH
from rlstab.envs.physics.interface import FloatArray

_DRY, _ICE = "#d7d2c8", "#bfe3f2"
_LENGTH, _WIDTH = 4.3, 1.7


def draw_road(axes: Any, pieces: FloatArray) -> None:
    """Draw lanes coloured by friction, their middle and their borders.

    Parameters
    ----------
    axes
        Matplotlib's.
    pieces
        ``(pieces, 6)``, as in `rlstab.envs.hybrid.car.Car`'s configuration.
    """
    ends = pieces[:, 4:6] + pieces[:, 3:4] * np.stack([np.cos(pieces[:, 2]), np.sin(pieces[:, 2])], -1)
    for friction, start, end, heading in zip(pieces[:, 0], pieces[:, 4:6], ends, pieces[:, 2], strict=True):
        side = HALF_WIDTH * np.array([-np.sin(heading), np.cos(heading)])
        corners = np.array([start + side, end + side, end - side, start - side])
        axes.fill(*corners.T, color=_DRY if friction == DRY else _ICE, lw=0)
        axes.plot(*np.array([start, end]).T, color=MUTED, lw=0.8, ls=(0, (6, 5)))
    for color, name in ((_DRY, "dry"), (_ICE, "ice")):
        axes.fill([], [], color=color, label=name)
    points = np.vstack([pieces[:1, 4:6], ends])
    low, high = points.min(0) - 3.5 * HALF_WIDTH, points.max(0) + 3.5 * HALF_WIDTH
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.set_xlabel("x [m]", fontsize=8)
    axes.set_ylabel("y [m]", fontsize=8)
    axes.legend(fontsize=7, loc="best", framealpha=0.8)


def draw_car(axes: Any, world: FloatArray, reference: FloatArray, trail: FloatArray) -> None:
    """Draw the car, its reference and its track.

    Parameters
    ----------
    axes
        Matplotlib's.
    world
        ``(7,)``, see `rlstab.envs.hybrid.car.to_world`.
    reference
        ``(4,)``: x, y, psi, v.
    trail
        ``(k, 2)``: where the car has been.
    """
    cosine, sine = np.cos(world[4]), np.sin(world[4])
    corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * [_LENGTH / 2.0, _WIDTH / 2.0]
    axes.fill(*(world[:2] + corners @ np.array([[cosine, sine], [-sine, cosine]])).T, color=INK)
    axes.plot(*trail.T, color=ACCENT, lw=1.6)
    axes.plot(*reference[:2], "o", color=ALARM, ms=5, mec="white")
