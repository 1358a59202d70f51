"""The hopper in its corridor, in matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlstab.envs.hybrid.pogobot import FALLEN, GRAVITY, Hop
from rlstab.envs.hybrid.rendering import ACCENT, ALARM, INK, MUTED
from rlstab.envs.hybrid.system import HybridState
from rlstab.envs.physics.interface import FloatArray

_STONE = "#d9d4ca"


def draw_corridor(axes: Any, table: FloatArray, length: float) -> None:
    """Draw floors and ceilings.

    Parameters
    ----------
    axes
        Matplotlib's.
    table
        ``(segments, 4)``: length, floor, ceiling, speed.
    length
        Where the corridor ends, m.
    """
    ends = np.cumsum(table[:, 0])
    low, high = table[:, 1].min() - 0.5, table[:, 2].max() + 0.4
    for row, start, end in zip(table, ends - table[:, 0], ends, strict=True):
        if start >= length - 1e-9:
            break
        axes.fill_between([start, end], low, row[1], color=_STONE, lw=0)
        axes.fill_between([start, end], row[2], high, color=_STONE, lw=0)
        axes.axvline(start, color=MUTED, lw=0.5, ls=":")
        axes.text(0.5 * (start + end), row[2] + 0.05, f"{row[3]:.1f} m/s", fontsize=7, color=INK, ha="center")
    axes.set(xlim=(-0.5, length + 0.5), ylim=(low, high), aspect="equal")
    axes.set_xlabel("x [m]", fontsize=8)
    axes.set_ylabel("y [m]", fontsize=8)


def draw_hopper(axes: Any, state: HybridState, path: FloatArray) -> None:
    """Draw the hopper at the apex, and its path so far.

    Parameters
    ----------
    axes
        Matplotlib's.
    state
        One world.
    path
        ``(k, 2)`` m.
    """
    x, _, y, _, x_foot, y_foot = state.x[0, :6]
    color = ALARM if state.mode[0] == FALLEN else INK
    axes.plot(*path.T, color=ACCENT, lw=1.2)
    axes.plot([x, x_foot], [y, y_foot], color=color, lw=1.8)
    axes.plot(x, y, "o", color=color, ms=7)
    axes.set_title(
        f"{'fallen' if state.mode[0] == FALLEN else 'apex'}: {state.x[0, 1]:+.2f} m/s, {y:.2f} m high",
        fontsize=9,
        color=color,
    )


def hop_path(apex: FloatArray, hop: Hop) -> FloatArray:
    """Points ``(k, 2)`` of the body along a hop of one world; stance as two chords.

    Parameters
    ----------
    apex
        ``(3,)``: x, xdot, y where it began.
    hop
        Of one world.
    """
    touchdown, liftoff = hop.touchdown[0], hop.liftoff[0]
    down = _flight(np.array([apex[0], apex[1], apex[2], 0.0]), float(-touchdown[3]) / GRAVITY)
    up = _flight(liftoff, max(float(liftoff[3]), 0.0) / GRAVITY)
    foot = touchdown[4:6]
    middle = 0.5 * (touchdown[[0, 2]] + liftoff[[0, 2]]) - foot
    lowest = foot + middle / max(float(np.linalg.norm(middle)), 1e-9) * float(hop.shortest[0])
    return np.vstack([down, lowest, up])


def _flight(body: FloatArray, duration: float, points: int = 20) -> FloatArray:
    time = np.linspace(0.0, duration, points)
    x, xdot, y, ydot = body[:4]
    return np.stack([x + xdot * time, y + ydot * time - 0.5 * GRAVITY * time**2], -1)
