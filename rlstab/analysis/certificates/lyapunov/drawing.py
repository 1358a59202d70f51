"""Pictures of a region: level sets, what was proved, what refutes it, and where trajectories go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike

from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_region(
    loop: ClosedLoop,
    levels: Sequence[float],
    *,
    plane: tuple[int, int] = (0, 1),
    counterexamples: ArrayLike | None = None,
    trajectories: int = 12,
    steps: int = 150,
    cells: int = 240,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw ``V`` in a plane through 0, level sets, and trajectories that start in the outermost.

    Parameters
    ----------
    loop
        Plant, controller and Lyapunov function.
    levels
        Ascending, as the inner and the outer one of a certificate.
    plane
        Indices of the two states that are drawn; the others are 0, for the starts of trajectories too.
    counterexamples
        ``(k, n)``: states to mark, with an arrow to where they go.
    trajectories, steps
        How many roll-outs, and how long.
    cells
        A side, of the grid on which V is evaluated.
    seed
        Of the starts.
    ax
        Axes to draw on; a new figure's if not given.

    Raises
    ------
    UserError
        The plane or the levels make no sense.
    """
    from rlstab.analysis.plots import new_axes

    size, plant = len(loop.half_widths), loop.plant
    first, second = plane
    if first == second or not all(0 <= index < size for index in plane):
        raise UserError(f"plane must be two different states of {plant.id}, 0 to {size - 1}, got {plane}")
    if not len(levels) or list(levels) != sorted(levels) or levels[0] <= 0.0:
        raise UserError(f"levels must be positive and ascending, got {list(levels)}")
    ax = new_axes(aspect=0.9) if ax is None else ax
    half = loop.half_widths.numpy()
    across, along = (np.linspace(-half[index], half[index], cells) for index in plane)
    grid = torch.zeros(cells, cells, size, dtype=torch.float64)
    grid[..., first], grid[..., second] = map(torch.as_tensor, np.meshgrid(across, along))
    with torch.no_grad():
        values = loop.value(grid.reshape(-1, size)).reshape(cells, cells).numpy()
        ax.contour(across, along, values, 12, colors="0.8", linewidths=0.6)
        ax.contourf(across, along, values, [-np.inf, levels[-1]], colors=["tab:green"], alpha=0.15)
        ax.contour(across, along, values, list(levels), colors="tab:green", linewidths=1.6)
        rng = np.random.default_rng(seed)
        inside = np.argwhere(values <= levels[-1])
        starts = inside[rng.integers(len(inside), size=trajectories)] if len(inside) else inside
        path = [grid[starts[:, 0], starts[:, 1]]]
        for _ in range(steps if len(starts) else 0):
            path.append(loop.step(path[-1]))
        lines = torch.stack(path).numpy()
        ax.plot(lines[..., first], lines[..., second], color="tab:blue", linewidth=0.7)
        if counterexamples is not None:
            states = torch.as_tensor(np.atleast_2d(np.asarray(counterexamples, np.float64)))
            moved = (loop.step(states) - states).numpy()
            found = states.numpy()
            ax.quiver(
                found[:, first], found[:, second], moved[:, first], moved[:, second],
                color="crimson", angles="xy", scale_units="xy", scale=1.0, width=0.004,
            )  # fmt: skip
            ax.plot(found[:, first], found[:, second], "x", color="crimson", label="breaks the claim")
    ax.plot([], [], color="tab:green", linewidth=1.6, label="levels of V")
    ax.plot([], [], color="tab:blue", linewidth=0.7, label="trajectories")
    # Above the box: within it, it would hide part of the set.
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=6)
    ax.set_xlim(-half[first], half[first])
    ax.set_ylim(-half[second], half[second])
    ax.set_xlabel(f"{plant.state_names[first]} [{plant.state_units[first]}]")
    ax.set_ylabel(f"{plant.state_names[second]} [{plant.state_units[second]}]")
    return ax
