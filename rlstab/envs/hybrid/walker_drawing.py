"""The compass walker from the side, in matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlstab.envs.hybrid.rendering import ACCENT, ALARM, INK, MUTED
from rlstab.envs.physics.interface import FloatArray


def draw_walker(axes: Any, x: FloatArray, foot: float, trail: FloatArray) -> None:
    """Draw ground, both legs with their masses, and the hip's trail.

    Parameters
    ----------
    axes
        Matplotlib's.
    x
        ``(4,)``, see `rlstab.envs.hybrid.walker.STATES`.
    foot
        Place of the stance foot, m.
    trail
        ``(k, 2)``: where the hip has been, m.
    """
    hip = np.array([foot - np.sin(x[0]), np.cos(x[0])])
    swing = hip + np.array([np.sin(x[0] + x[1]), -np.cos(x[0] + x[1])])
    middle = np.round(hip[0])
    axes.fill_between([middle - 2.0, middle + 2.0], -0.25, 0.0, color="#e7e2d8", lw=0)
    axes.axhline(0.0, color=MUTED, lw=1.0)
    axes.plot(*trail.T, color=ACCENT, lw=1.2)
    for end, color, name in ((np.array([foot, 0.0]), INK, "stance leg"), (swing, ALARM, "swing leg")):
        axes.plot(*np.array([hip, end]).T, color=color, lw=3.0, solid_capstyle="round", label=name)
        axes.plot(*(0.5 * (hip + end)), "o", color=color, ms=7)
    axes.plot(*hip, "o", color=INK, ms=11)
    axes.set(xlim=(middle - 1.0, middle + 1.0), ylim=(-0.25, 1.3), aspect="equal")
    axes.set_xlabel("x [m]", fontsize=8)
    axes.legend(fontsize=7, loc="upper right")
