"""Figures of robustness: survival of pushes, gains, returns in changed worlds; one line a policy or a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlstab.analysis import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlstab.analysis.robustness.battery_report import CellReport
    from rlstab.analysis.robustness.gain import GainCurve
    from rlstab.analysis.robustness.pushes import PushReport
    from rlstab.envs.physics.interface import FloatArray


def survival(reports: Mapping[str, Sequence[PushReport]], ax: Axes | None = None) -> Axes:
    """Share of pushes survived against their impulse; several runs of a name: their mean, and their range as a band."""
    ax = plots.axes_or_new(ax)
    for index, (name, runs) in enumerate(reports.items()):
        shares = np.stack([run.survived.mean(axis=(1, 2, 3)) for run in runs])
        _line(ax, index, name, runs[0].impulse, shares)
    ax.set(xlabel="Impulse over mass, m/s", ylabel="Pushes survived", ylim=(-0.02, 1.02), xlim=(0, None))
    plots.legend_above(ax, list(reports))
    return ax


def gain_curves(curves: Mapping[str, Sequence[GainCurve]], ax: Axes | None = None) -> Axes:
    """Largest gain found against the energy of the force; gains that are infinite (falls undisturbed) are left out."""
    ax = plots.axes_or_new(ax)
    for index, (name, runs) in enumerate(curves.items()):
        gains = np.stack([np.where(np.isfinite(run.gain), run.gain, np.nan) for run in runs])
        whole = gains[np.isfinite(gains).all(axis=1)]
        if len(whole):
            _line(ax, index, name, runs[0].energy, whole)
    first = next(iter(curves.values()))[0]
    ax.set_xscale("log")
    ax.set_xlabel("Energy of the force, weights · √s" if first.weight_n != 1.0 else "Energy of the force")
    ax.set_ylabel(f"Largest {first.measure} gain found")
    plots.legend_above(ax, list(curves))
    return ax


def worlds(reports: Mapping[str, Sequence[CellReport]], ax: Axes | None = None) -> Axes:
    """Mean return in each changed world, a row a world."""
    first = next(iter(reports.values()))[0]
    parts = zip(first.test, first.value, first.unit, strict=True)
    labels = [f"{test} {value:g} {'' if unit == 'factor' else unit}".strip() for test, value, unit in parts]
    ax = plots.new_axes("page", aspect=0.1 + 0.03 * len(labels), interactive=True) if ax is None else ax
    rows = np.arange(len(labels))
    for index, (name, runs) in enumerate(reports.items()):
        means = np.stack([run.returns.mean(axis=1) for run in runs])
        offset = (index - (len(reports) - 1) / 2) * 0.7 / len(reports)
        colour = plots.COLOURS[index % len(plots.COLOURS)]
        ax.hlines(rows + offset, means.min(0), means.max(0), color=colour, linewidth=2.5, alpha=0.35)
        ax.plot(means.mean(0), rows + offset, "osD^vP*"[index % 7], color=colour, markersize=3, label=name or None)
    ax.set_yticks(rows, labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("Return")
    plots.legend_above(ax, list(reports))
    return ax


def _line(ax: Axes, index: int, name: str, x: FloatArray, values: FloatArray) -> None:
    """Draw the mean of ``values (runs, points)`` and the range of the runs."""
    colour, dash = plots.COLOURS[index % len(plots.COLOURS)], plots.DASHES[index % len(plots.DASHES)]
    if len(values) > 1:
        ax.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
    ax.plot(x, values.mean(0), color=colour, linestyle=dash, marker="o", markersize=2, label=name or None)
