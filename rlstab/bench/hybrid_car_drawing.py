"""Pictures of the study of the car: tracks along a road, error against travel time, levels against speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlstab.analysis import plots
from rlstab.envs.hybrid.road import DRY, ICE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlstab.bench.hybrid_car_result import CarStudy, Row

_FRONTS = ("LQR", "LQR, tuned", "network, no planner", "planner by hand, LQR", "planner by hand, LQR tuned", "planner")
_POINTS = ("planner, differentiable",)
_FARTHEST = 1.6
"""Errors above this are off the picture: lost drives."""


def draw_pareto(study: CarStudy, ax: Axes | None = None) -> Axes:
    """Draw rmse against travel time: a line for each controller over its speeds or weights, means over roads."""
    ax = plots.axes_or_new(ax)
    names: list[str] = []
    found = list(dict.fromkeys(row.controller for row in study.rows))
    for index, name in enumerate(part for part in _FRONTS if part in found):
        x, y = _front(study.rows, name)
        colour, dash = plots.COLOURS[index % len(plots.COLOURS)], plots.DASHES[index % len(plots.DASHES)]
        heavy = {"linewidth": 2.0, "zorder": 5} if name == "planner" else {}
        ax.plot(x, y, color=colour, linestyle=dash, marker="o", markersize=3, label=name, **heavy)
        names.append(name)
    for name in _POINTS:
        if name in found:
            ax.plot(*_front(study.rows, name), "k*", markersize=7, label=name, zorder=6)
            names.append(name)
    ax.set(xlabel="Travel time, s", ylabel="rmse of the error state", ylim=(0.0, _FARTHEST))
    ax.legend(fontsize=6, loc="upper right")
    return ax


def draw_tracks(study: CarStudy, ax: Axes) -> Axes:
    """Draw the first road and who drove where."""
    from rlstab.envs.hybrid.car_drawing import draw_road

    draw_road(ax, study.road.reshape(-1, 6))
    for index, track in enumerate(study.tracks):
        colour, dash = plots.COLOURS[(0, 1, 2)[index % 3]], plots.DASHES[index % len(plots.DASHES)]
        label = f"{track.controller}, {track.references}"
        ax.plot(*track.points.T, color=colour, linestyle=dash, linewidth=1.1, label=label)
    ax.legend(fontsize=5, loc="center left")
    return ax


def draw_levels(study: CarStudy, ax: Axes) -> Axes:
    """Draw measured and claimed levels of the first training against speed, for dry road and ice."""
    check = next(part.levels for part in study.learned if part.levels is not None)
    for friction, name, colour in ((DRY, "dry", plots.COLOURS[1]), (ICE, "ice", plots.COLOURS[0])):
        of = np.isclose(check.friction, friction)
        order = np.argsort(check.speed[of])
        speed, level = check.speed[of][order], check.level[of][order]
        ax.plot(speed, check.measured[of][order], "o", color=colour, markersize=3, label=f"measured, {name}")
        ax.plot(speed, level, color=colour, linewidth=1.2, label=f"claimed, {name}")
    ax.set(xlabel="Reference speed, m/s", ylabel="Level of V", xscale="log", yscale="log")
    ax.set_xticks([3, 5, 10, 20, 30], ["3", "5", "10", "20", "30"])
    ax.minorticks_off()
    ax.legend(fontsize=6)
    return ax


def draw_page(study: CarStudy, path: Path) -> Path:
    """Draw all three."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(plots.WIDTHS_INCH["page"], 5.2), layout="constrained")
        grid: Any = figure.add_gridspec(2, 2, width_ratios=[0.75, 1.0])
        draw_tracks(study, figure.add_subplot(grid[:, 0]))
        draw_pareto(study, figure.add_subplot(grid[0, 1]))
        if any(part.levels is not None for part in study.learned):
            draw_levels(study, figure.add_subplot(grid[1, 1]))
    return plots.save(figure, path)


def _front(rows: Sequence[Row], controller: str) -> tuple[list[float], list[float]]:
    """Travel time and rmse of each kind of references but one second a piece, by time."""
    points = []
    for references in dict.fromkeys(row.references for row in rows if row.controller == controller):
        some = [row for row in rows if (row.controller, row.references) == (controller, references)]
        if references != "1 s a piece" and "V alone" not in references:
            time, error = (np.mean([row.figures[name].mean() for row in some]) for name in ("steps", "rmse"))
            points.append((0.01 * float(time), float(error)))
    points.sort()
    return [time for time, _ in points], [error for _, error in points]
