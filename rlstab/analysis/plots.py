"""Figures for papers: readable at column width, for the colour-blind, without decoration.

Every function draws on the axes it is given, or on a new figure, and returns the axes. Lines differ in colour and in
dash, so that a figure survives a black-and-white printer.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from rlstab.analysis.stats import STATISTIC_NAMES
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rlstab.analysis.curves import LearningCurve
    from rlstab.analysis.stats import Aggregate, Improvement, PerformanceProfile

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which the colour-blind can tell apart, without its yellow, which white paper swallows."""
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1)), (0, (7, 2)), (0, (2, 2)))
WIDTHS_INCH = {"column": 3.3, "page": 6.8}
INK = "#101214"
"""Colour of axes and text; `svg` turns it into the colour of the surrounding text."""

STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "font.size": 8,
    "lines.linewidth": 1.2,
    "lines.solid_capstyle": "round",
    "pdf.fonttype": 42,  # Embeds TrueType: journals refuse the default Type 3.
    "savefig.dpi": 300,
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}


def new_axes(width: Literal["column", "page"] = "column", aspect: float = 0.62, *, interactive: bool = False) -> Axes:
    """Axes of a new figure in this module's style.

    Parameters
    ----------
    width
        Of a two-column page's column (3.3 inches) or of its text (6.8 inches).
    aspect
        Height over width.
    interactive
        Register with pyplot, so that a notebook shows the figure; otherwise no display is ever needed.
    """
    import matplotlib

    size = (WIDTHS_INCH[width], WIDTHS_INCH[width] * aspect)
    with matplotlib.rc_context(STYLE):
        if interactive:
            from matplotlib import pyplot

            return pyplot.figure(figsize=size, layout="constrained", dpi=150).add_subplot()
        from matplotlib.figure import Figure

        return Figure(figsize=size, layout="constrained").add_subplot()


def save(figure: Figure | Axes, path: str | Path) -> Path:
    """Write a figure as PNG (300 dots an inch), PDF or SVG, by the suffix.

    Raises
    ------
    UserError
        Another suffix, or the folder cannot be written.
    """
    from rlstab.runs.atomic import write_bytes

    target = Path(path)
    kind = target.suffix.lower().lstrip(".")
    if kind not in ("png", "pdf", "svg"):
        raise UserError(f"cannot draw {target.name}: the name must end in .png, .pdf or .svg")
    write_bytes(target, _render(figure, kind))
    return target


def svg(figure: Figure | Axes, description: str) -> str:
    """An ``<svg>`` element to put into a page: its axes and text take the colour of the text around it.

    Parameters
    ----------
    figure
        What to draw.
    description
        Read out where the figure cannot be seen.
    """
    import html

    text = _render(figure, "svg").decode()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    label = html.escape(description, quote=True)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def learning_curves(
    curves: Sequence[LearningCurve],
    ax: Axes | None = None,
    *,
    show_runs: bool = False,
    step_unit: str = "Environment steps",
) -> Axes:
    """Return against steps: one line a curve, its interval as a band.

    Parameters
    ----------
    curves
        From `rlstab.analysis.curves.learning_curve`.
    ax
        Where to draw.
    show_runs
        Also draw every run as a thin line.
    step_unit
        Label of the axis.
    """
    ax = axes_or_new(ax)
    last = max(float(curve.steps[-1]) for curve in curves)
    factor, prefix = _magnitude(last)
    notes = [_runs_note(curve) for curve in curves]
    alike = len(set(notes)) == 1
    names = [c.label if alike or not note else f"{c.label} ({note})" for c, note in zip(curves, notes, strict=True)]
    for index, curve in enumerate(curves):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        steps = curve.steps / factor
        if show_runs:
            ax.plot(steps, curve.runs.T, color=colour, linewidth=0.4, alpha=0.5, zorder=1)
        if np.isfinite(curve.low).any():
            ax.fill_between(steps, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
        marker = "o" if len(steps) == 1 else None
        ax.plot(
            steps,
            curve.value,
            color=colour,
            linewidth=1.2,
            linestyle=dash,
            label=names[index],
            marker=marker,
            markersize=3,
        )
    ax.set_xlabel(f"{step_unit} ({prefix})" if prefix else step_unit)
    ax.set_ylabel(f"{curves[0].quantity} ({notes[0]})" if alike and notes[0] else curves[0].quantity)
    ax.set_xlim(left=0)
    legend_above(ax, names)
    return ax


def return_distribution(returns: Mapping[str, ArrayLike], ax: Axes | None = None, *, quantity: str = "Return") -> Axes:
    """Every episode as a dot, a row a group, with the median as a bar: nothing of the distribution is hidden.

    Parameters
    ----------
    returns
        Group to ``(episodes,)``.
    ax
        Where to draw.
    quantity
        Label of the axis.
    """
    ax = axes_or_new(ax, aspect=min(0.9, 0.3 + 0.12 * len(returns)))
    for row, (name, values) in enumerate(returns.items()):
        data = np.sort(np.asarray(values, np.float64))
        colour = COLOURS[row % len(COLOURS)]
        ax.scatter(data, row + _spread(data, ax), s=9, color=colour, alpha=0.75, linewidths=0, clip_on=False, zorder=3)
        middle = float(np.median(data))
        ax.plot([middle, middle], [row - 0.36, row + 0.36], color=INK, linewidth=1.2, zorder=4)
        note = f"{name}\n(n = {len(data)})" if name else f"n = {len(data)}"
        ax.text(-0.015, row, note, transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=7, color=INK)
    ax.set_ylim(len(returns) - 0.5, -0.5)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.locator_params(axis="x", nbins=6)
    ax.set_xlabel(f"{quantity} of an episode (bar: median)")
    return ax


def return_histogram(returns: Mapping[str, ArrayLike], ax: Axes | None = None, *, quantity: str = "Return") -> Axes:
    """Histograms of many episodes on common bins; for fewer than about fifty `return_distribution` says more."""
    ax = axes_or_new(ax)
    groups = {name: np.asarray(values, np.float64) for name, values in returns.items()}
    pooled = np.concatenate(list(groups.values()))
    spread = np.ptp(pooled) or max(abs(float(pooled[0])), 1.0) * 0.1
    edges = np.histogram_bin_edges(
        pooled, bins="fd", range=(pooled.min() - 0.02 * spread, pooled.max() + 0.02 * spread)
    )
    if not 8 <= len(edges) - 1 <= 60:
        edges = np.linspace(edges[0], edges[-1], 9 if len(edges) < 9 else 61)
    for index, (name, data) in enumerate(groups.items()):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        counts = np.histogram(data, edges)[0]
        label = f"{name} (n = {len(data)})" if name else None
        ax.stairs(counts, edges, fill=True, color=colour, alpha=0.2)
        ax.stairs(counts, edges, color=colour, linestyle=dash, linewidth=1.0, label=label)
    ax.set_xlabel(f"{quantity} of an episode")
    ax.set_ylabel("Episodes")
    ax.locator_params(axis="y", integer=True)
    legend_above(ax, list(groups))
    return ax


def paired_returns(
    evaluated: ArrayLike,
    deployed: ArrayLike,
    ax: Axes | None = None,
    *,
    labels: tuple[str, str] = ("Evaluated", "Deployed"),
) -> Axes:
    """Return of one episode against that of another run of the same episode; equal ones lie on the diagonal."""
    ax = axes_or_new(ax, aspect=0.9)
    x, y = np.asarray(evaluated, np.float64), np.asarray(deployed, np.float64)
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    margin = 0.06 * (high - low) or 0.05 * max(abs(high), 1.0)
    limits = (low - margin, high + margin)
    ax.plot(limits, limits, color=INK, linewidth=0.6, alpha=0.5, zorder=1)
    ax.scatter(x, y, s=14, color=COLOURS[0], alpha=0.75, linewidths=0, zorder=2)
    ax.set(xlim=limits, ylim=limits, xlabel=f"{labels[0]} return", ylabel=f"{labels[1]} return", aspect="equal")
    ax.locator_params(nbins=5)
    return ax


def intervals(aggregates: Mapping[str, Aggregate], ax: Axes | None = None, *, quantity: str = "return") -> Axes:
    """IQM, mean and median of each method as points with intervals, on one axis."""
    count = len(aggregates)
    names = next(iter(aggregates.values())).statistics
    ax = axes_or_new(ax, aspect=min(1.2, 0.3 + 0.04 * count * len(names)))
    for index, (label, aggregate) in enumerate(aggregates.items()):
        colour = COLOURS[index % len(COLOURS)]
        rows = np.arange(len(names)) + (index - (count - 1) / 2) * 0.7 / count
        ax.hlines(rows, aggregate.low, aggregate.high, color=colour, linewidth=3, alpha=0.35)
        marker = "osD^vP*"[index % 7]
        ax.plot(aggregate.value, rows, marker, color=colour, markersize=3.5, label=label or None)
    first = next(iter(aggregates.values()))
    ax.set_yticks(np.arange(len(names)), [STATISTIC_NAMES[name] for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(f"{quantity.capitalize()} ({first.level:.0%} interval over {first.num_rows} {first.over})")
    legend_above(ax, list(aggregates))
    return ax


def improvement(result: Improvement, ax: Axes | None = None) -> Axes:
    """Probability of improvement with its interval; the line marks no difference."""
    ax = axes_or_new(ax, aspect=0.3)
    ax.axvline(0.5, color=INK, linewidth=0.6, alpha=0.5)
    ax.hlines([0], [result.low], [result.high], color=COLOURS[0], linewidth=3, alpha=0.35)
    ax.plot([result.probability], [0], "o", color=COLOURS[0], markersize=3.5)
    ax.set(xlim=(-0.02, 1.02), yticks=[], ylim=(-1, 1))
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(f"P({result.x} > {result.y}), {result.level:.0%} interval")
    return ax


def performance_profiles(
    profiles: Sequence[PerformanceProfile], ax: Axes | None = None, *, quantity: str = "Return"
) -> Axes:
    """Fraction of runs above each threshold, with intervals as bands."""
    ax = axes_or_new(ax)
    for index, profile in enumerate(profiles):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        if np.isfinite(profile.low).any():
            ax.fill_between(
                profile.threshold, profile.low, profile.high, color=colour, alpha=0.2, linewidth=0, step="post"
            )
        ax.plot(
            profile.threshold,
            profile.fraction,
            color=colour,
            linestyle=dash,
            label=profile.label,
            drawstyle="steps-post",
        )
    ax.set_xlabel(f"{quantity} τ")
    ax.set_ylabel("Fraction of runs above τ")
    ax.set_ylim(0, 1.02)
    legend_above(ax, [profile.label for profile in profiles])
    return ax


def axes_or_new(ax: Axes | None, aspect: float = 0.62) -> Axes:
    """Take the axes given, or those of a new figure."""
    return new_axes(aspect=aspect, interactive=True) if ax is None else ax


def legend_above(ax: Axes, names: Sequence[str]) -> None:
    """Put the legend above the axes, where it covers no data; none where nothing was drawn."""
    if any(names) and ax.get_legend_handles_labels()[0]:
        columns = len(names) if sum(map(len, names)) + 6 * len(names) < 56 else 1
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=columns,
            fontsize=7,
            frameon=False,
            labelcolor=INK,
            handlelength=2.4,
            borderpad=0.2,
        )


def _runs_note(curve: LearningCurve) -> str:
    count = len(curve.runs)
    return f"{STATISTIC_NAMES[curve.statistic]} of {count} runs" if count > 1 else ""


def _magnitude(value: float) -> tuple[float, str]:
    for factor, name in ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands")):
        if value >= factor:
            return factor, name
    return 1.0, ""


def _spread(data: np.ndarray, ax: Axes) -> np.ndarray:
    """Vertical offsets that keep dots of nearly equal values apart, the same each time (no random jitter)."""
    offsets = np.zeros(len(data))
    width = (np.ptp(data) or 1.0) / 45
    start = 0
    for index in range(1, len(data) + 1):
        if index == len(data) or data[index] - data[start] > width:
            count = index - start
            step = min(0.13, 0.64 / max(count - 1, 1))
            places = np.arange(count)
            # 0, +1, -1, +2, -2, ... steps from the line.
            offsets[start:index] = np.where(places % 2 == 1, (places + 1) // 2, -(places // 2)) * step
            start = index
    return offsets


def _render(figure: Figure | Axes, kind: str) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    if not isinstance(figure, Figure):
        owner = figure.get_figure()
        assert owner is not None
        figure = owner.figure if not isinstance(owner, Figure) else owner
    # No date and a fixed salt: the same figure gives the same bytes.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    target = io.BytesIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "rlstab"}):
        figure.savefig(target, format=kind, metadata=metadata, transparent=kind == "svg")
    return target.getvalue()
