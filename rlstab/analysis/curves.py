"""Learning curves of several runs on one grid of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from rlstab.analysis.bootstrap import FloatArray, bootstrap, format_interval
from rlstab.analysis.result import Result, Scalar
from rlstab.analysis.stats import STATISTIC_NAMES, Statistic
from rlstab.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class LearningCurve(Result):
    """Return against environment steps: every run, and their aggregate with a pointwise interval."""

    kind: ClassVar[str] = "learning_curve"

    label: str
    statistic: str
    level: float
    resamples: int
    seed: int
    steps: FloatArray = field(metadata={"unit": "environment steps"})
    """``(points,)``: grid common to all runs; nothing is extrapolated."""
    runs: FloatArray = field(metadata={"unit": "return"})
    """``(num_runs, points)``: linear interpolation of each run."""
    value: FloatArray = field(metadata={"unit": "return"})
    """``(points,)``: the statistic over runs."""
    low: FloatArray = field(metadata={"unit": "return"})
    """``(points,)``; NaN for a single run."""
    high: FloatArray = field(metadata={"unit": "return"})
    quantity: str = "Return"
    """Axis label of what the runs measured."""

    def summary(self) -> dict[str, Scalar]:
        """Where the curve ends."""
        last = f"{self.value[-1]:.5g} {format_interval(self.low[-1], self.high[-1])}"
        return {
            "runs": len(self.runs),
            "steps": int(self.steps[-1]),
            f"{STATISTIC_NAMES[self.statistic]} at the end": last,
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the aggregate with its band."""
        from rlstab.analysis import plots

        return plots.learning_curves([self], ax)


def learning_curve(
    runs: Sequence[pd.DataFrame | tuple[ArrayLike, ArrayLike]],
    *,
    label: str = "",
    value: str = "rollout/return_mean",
    step: str = "step",
    quantity: str = "Return",
    points: int = 200,
    statistic: Statistic = "iqm",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> LearningCurve:
    """Bring the curves of several runs onto one grid of steps and aggregate them.

    Parameters
    ----------
    runs
        One metrics table a run (`rlstab.runs.run.Run.read_metrics`) or one pair of arrays (steps, values). Rows in
        which the value is missing are skipped.
    label
        Name of the curve in legends.
    value, step
        Columns of the tables.
    quantity
        What the values are, for the axis.
    points
        Size of the grid, which spans the steps that every run covers.
    statistic
        Over runs.
    level, resamples, seed
        As in `aggregate`; intervals are pointwise.

    Raises
    ------
    UserError
        No runs, a run without values, or runs without common steps.
    """
    curves = [_curve(run, index, value, step) for index, run in enumerate(runs)]
    if not curves:
        raise UserError("a learning curve needs at least one run")
    first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    if first > last:
        raise UserError(f"the runs have no steps in common: one begins at {first:g}, another ends at {last:g}")
    # One run alone is shown as it was logged.
    grid = curves[0][0] if len(curves) == 1 else np.linspace(first, last, points if last > first else 1)
    matrix = np.stack([np.interp(grid, steps, values) for steps, values in curves])

    def over_runs(sample: FloatArray) -> FloatArray:
        from scipy.stats import trim_mean

        if statistic == "iqm":  # As rliable's aggregate_iqm, for all points at once.
            return np.asarray(trim_mean(sample, 0.25, axis=0))
        return np.mean(sample, axis=0) if statistic == "mean" else np.median(sample, axis=0)

    if statistic not in STATISTIC_NAMES:
        raise UserError(f"no statistic '{statistic}'; there are {', '.join(STATISTIC_NAMES)}")

    centre, low, high = bootstrap((matrix,), over_runs, level=level, resamples=resamples, seed=seed, whole_rows=True)
    return LearningCurve(label, statistic, level, resamples, seed, grid, matrix, centre, low, high, quantity)


def _curve(run: Any, index: int, value: str, step: str) -> tuple[FloatArray, FloatArray]:
    if isinstance(run, tuple):
        steps, values = (np.asarray(part, np.float64) for part in run)
    else:
        missing = [name for name in (step, value) if name not in run]
        if missing:
            columns = ", ".join(map(str, run.columns)) or "nothing"
            raise UserError(f"the metrics of run {index} have no '{missing[0]}'; they have {columns}")
        steps, values = run[step].to_numpy(np.float64), run[value].to_numpy(np.float64)
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    if len(steps) == 0:
        raise UserError(f"run {index} has no values to draw: train it for longer")
    order = np.argsort(steps, kind="stable")
    return steps[order], values[order]
