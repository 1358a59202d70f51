"""Pictures of plants, by matplotlib: a sketch of what moves, and where it has been in the plane of its first states."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.physics.interface import FloatArray
from rlstab.envs.plants.plant import Plant
from rlstab.envs.plants.systems import CartPole, InvertedPendulum, PathTracking, PlanarQuadrotor

_DOTS_PER_INCH = 100
_LONGEST_TRAIL = 2000
_INK, _MUTED, _ACCENT = "#1d2733", "#9aa5b1", "#1f6fb4"


class PlantRenderer:
    """Draws worlds of one plant at given states, with the trail of the states it has drawn before.

    Parameters
    ----------
    plant
        What moves.
    width, height
        Size of the picture, pixels.
    """

    def __init__(self, plant: Plant, width: int = 480, height: int = 480) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.size = (width, height)
        self._plant = plant
        figure = Figure((width / _DOTS_PER_INCH, height / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH, layout="constrained")
        self._canvas: Any = FigureCanvasAgg(figure)
        self._sketch, self._plane = figure.subplots(1, 2)
        self._trail: list[FloatArray] = []

    def frame(self, qpos: FloatArray, qvel: FloatArray | None = None) -> NDArray[np.uint8]:
        """Picture ``(height, width, 3)`` of one world's state ``qpos (nq,)``."""
        del qvel
        box = np.array(self._plant.box)
        # A jump of a quarter of the box is another episode.
        if self._trail and bool((np.abs(qpos - self._trail[-1]) > 0.25 * box).any()):
            self._trail.clear()
        self._trail.append(np.array(qpos))
        del self._trail[:-_LONGEST_TRAIL]
        self._sketch.clear()
        for line in sketch(self._plant, qpos):
            self._sketch.plot(*line.T, color=_INK, lw=2.5, solid_capstyle="round")
        self._sketch.set(aspect="equal", xticks=[], yticks=[], **_view(self._plant))
        self._sketch.axhline(0.0, color=_MUTED, lw=0.6)
        names = [
            f"{name} [{unit}]" for name, unit in zip(self._plant.state_names, self._plant.state_units, strict=True)
        ]
        states = np.array(self._trail)
        self._plane.clear()
        self._plane.plot(states[:, 0], states[:, 1], color=_ACCENT, lw=1.2)
        self._plane.plot(*states[-1, :2], "o", color=_INK, ms=5)
        self._plane.plot(0.0, 0.0, "+", color=_MUTED)
        self._plane.set(xlim=(-box[0], box[0]), ylim=(-box[1], box[1]))
        self._plane.tick_params(labelsize=7)
        self._plane.set_xlabel(names[0], fontsize=8)
        self._plane.set_ylabel(names[1], fontsize=8)
        self._canvas.draw()
        width, height = self.size
        return np.asarray(self._canvas.buffer_rgba()).reshape(height, width, 4)[:, :, :3].copy()

    def close(self) -> None:
        """Forget the trail."""
        self._trail.clear()


def sketch(plant: Plant, state: FloatArray) -> list[FloatArray]:
    """Lines ``(k, 2)``, m, that show a plant in a state; none for one that has no sketch."""
    if isinstance(plant, InvertedPendulum):
        return [_rod(np.zeros(2), state[0], plant.length)]
    if isinstance(plant, CartPole):
        cart = np.array([state[0], 0.0])
        return [cart + np.array([[-0.15, 0.0], [0.15, 0.0]]), _rod(cart, state[2], plant.length)]
    if isinstance(plant, PlanarQuadrotor):
        along = plant.length * np.array([np.cos(state[2]), np.sin(state[2])])
        return [state[:2] + np.stack([-along, along])]
    if isinstance(plant, PathTracking):
        # The path is the line at height 0; the vehicle is at its distance from it, turned by the heading.
        along = 0.5 * plant.wheelbase * np.array([np.cos(state[1]), np.sin(state[1])])
        return [np.array([0.0, state[0]]) + np.stack([-along, along])]
    return []


def _rod(foot: FloatArray, angle: float, length: float) -> FloatArray:
    return foot + np.array([[0.0, 0.0], [length * np.sin(angle), length * np.cos(angle)]])


def _view(plant: Plant) -> dict[str, tuple[float, float]]:
    reach = 1.2 * plant.length if isinstance(plant, InvertedPendulum) else 1.2 * plant.box[0]
    if isinstance(plant, CartPole):
        reach += plant.length
    return {"xlim": (-reach, reach), "ylim": (-reach, reach)}
