"""Figures of robustness: survival of pushes, gains, returns in changed worlds; one line a policy or a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlstab.analysis import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rlstab.analysis.robustness.adversary import AdversaryReport
    from rlstab.analysis.robustness.battery_report import BatteryReport, CellReport
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


def comparison(reports: Mapping[str, Sequence[BatteryReport]]) -> Figure:
    """Everything that all reports have: worlds on the left, pushes, adversaries and gains on the right."""
    import matplotlib
    from matplotlib.figure import Figure

    every = [report for runs in reports.values() for report in runs]
    right = [part for part in ("pushes", "adversaries", "gain") if all(getattr(report, part) for report in every)]
    height = max(2.5 * max(len(right), 1), 0.9 + 0.2 * len(every[0].cells.test))
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(plots.WIDTHS_INCH["page"], height), layout="constrained")
        grid = figure.add_gridspec(max(len(right), 1), 2 if right else 1, width_ratios=[1.15, 1.0] if right else None)
        worlds(
            {name: [report.cells for report in runs] for name, runs in reports.items()}, figure.add_subplot(grid[:, 0])
        )
        for row, part in enumerate(right):
            ax = figure.add_subplot(grid[row, 1])
            parts = {name: [getattr(report, part) for report in runs] for name, runs in reports.items()}
            {"pushes": survival, "adversaries": adversaries, "gain": gain_curves}[part](parts, ax)
            legend = ax.get_legend()
            if legend is not None:
                legend.remove()  # That of the worlds is for all.
    return figure


def adversaries(reports: Mapping[str, Sequence[Sequence[AdversaryReport]]], ax: Axes | None = None) -> Axes:
    """Return undisturbed and against the strongest adversary of each force; the range of several runs as a band."""
    ax = plots.axes_or_new(ax)
    for index, (name, runs) in enumerate(reports.items()):
        forces = np.array([0.0, *(part.max_force for part in runs[0])])
        means = np.array([[parts[0].calm.mean(), *(part.returns.mean() for part in parts)] for parts in runs])
        _line(ax, index, name, forces, means)
    ax.set(xlabel="Adversary's longest force, weights", ylabel="Return against the strongest")
    ax.set_ylim(min(0.0, ax.get_ylim()[0]), None)
    plots.legend_above(ax, list(reports))
    return ax


def _line(ax: Axes, index: int, name: str, x: FloatArray, values: FloatArray) -> None:
    """Draw the mean of ``values (runs, points)`` and the range of the runs."""
    colour, dash = plots.COLOURS[index % len(plots.COLOURS)], plots.DASHES[index % len(plots.DASHES)]
    if len(values) > 1:
        ax.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
    ax.plot(x, values.mean(0), color=colour, linestyle=dash, marker="o", markersize=2, label=name or None)
