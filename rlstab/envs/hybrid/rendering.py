"""Pictures of hybrid systems, by matplotlib: no screen, no graphics library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.physics.hybrid_engine import unpack

if TYPE_CHECKING:
    from rlstab.envs.hybrid.task import HybridTask
    from rlstab.envs.physics.interface import FloatArray

_DOTS_PER_INCH = 100
_JUMP = 5.0
_LONGEST_TRAIL = 5000

INK, MUTED, ACCENT, ALARM = "#1d2733", "#9aa5b1", "#1f6fb4", "#c8452c"
"""Colours of what moves, of what is only said, of a reference or a trail, and of limits."""


class PlotRenderer:
    """Draws worlds of one task at given states, and the trail of those it has drawn before in the same episode.

    Parameters
    ----------
    task
        Says how to draw.
    width, height
        Size of the picture, pixels.
    """

    def __init__(self, task: HybridTask, width: int = 480, height: int = 480) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.size = (width, height)
        self._task = task
        figure = Figure((width / _DOTS_PER_INCH, height / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH, layout="constrained")
        self._canvas: Any = FigureCanvasAgg(figure)
        self._axes = figure.add_subplot()
        self._trail: list[FloatArray] = []
        self._episode: FloatArray | None = None

    def frame(self, qpos: FloatArray, qvel: FloatArray | None = None) -> NDArray[np.uint8]:
        """Picture ``(height, width, 3)`` of one world's packed state ``qpos (nq,)``."""
        del qvel
        task, axes = self._task, self._axes
        state = unpack(task.system, qpos[None])
        points, episode = task.trail(state), task.episode_of(state)
        jumped = bool(self._trail) and float(np.linalg.norm(points[0] - self._trail[-1])) > _JUMP
        if jumped or self._episode is None or not np.array_equal(episode, self._episode):
            self._trail.clear()
        self._episode = np.array(episode)
        self._trail.extend(np.array(points))
        del self._trail[:-_LONGEST_TRAIL]
        axes.clear()
        axes.tick_params(labelsize=7, colors=MUTED)
        for side in axes.spines.values():
            side.set_color(MUTED)
        task.draw(axes, state, np.array(self._trail))
        self._canvas.draw()
        width, height = self.size
        return np.asarray(self._canvas.buffer_rgba()).reshape(height, width, 4)[:, :, :3].copy()

    def close(self) -> None:
        """Forget the trail."""
        self._trail.clear()
