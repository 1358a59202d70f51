"""Aggregates over runs with bootstrap intervals, as Agarwal et al. recommend, computed by rliable.

References
----------
Agarwal, Schwarzer, Castro, Courville, Bellemare (2021). Deep reinforcement learning at the edge of the statistical
precipice. NeurIPS 34.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from rlstab.analysis.bootstrap import FloatArray, bootstrap, format_interval, score_matrix
from rlstab.analysis.result import Result, Scalar
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Statistic = Literal["iqm", "mean", "median"]

STATISTICS: tuple[Statistic, ...] = ("iqm", "mean", "median")
STATISTIC_NAMES: dict[str, str] = {"iqm": "IQM", "mean": "mean", "median": "median"}


@dataclass(frozen=True, eq=False, repr=False)
class Aggregate(Result):
    """Interquartile mean, mean and median of scores with confidence intervals.

    With fewer than two rows there is nothing to resample and the bounds are NaN.
    """

    kind: ClassVar[str] = "aggregate"

    over: str
    """What the rows are and hence what the interval speaks of: ``"runs"`` (another seed of training) or
    ``"episodes"`` (another start of the same policy)."""
    num_rows: int
    num_tasks: int
    level: float
    """Coverage that the intervals aim at, as in 0.95."""
    resamples: int
    seed: int
    statistics: tuple[str, ...]
    """``"iqm"``, ``"mean"``, ``"median"``: names of the entries of the arrays below."""
    value: FloatArray = field(metadata={"unit": "return"})
    low: FloatArray = field(metadata={"unit": "return"})
    high: FloatArray = field(metadata={"unit": "return"})

    def get(self, statistic: Statistic) -> tuple[float, float, float]:
        """Value, lower and upper bound of one statistic."""
        index = self.statistics.index(statistic)
        return float(self.value[index]), float(self.low[index]), float(self.high[index])

    def summary(self) -> dict[str, Scalar]:
        """Each statistic with its interval, and what they are taken over."""
        rows: dict[str, Scalar] = {}
        for name, value, low, high in zip(self.statistics, self.value, self.low, self.high, strict=True):
            rows[STATISTIC_NAMES[name]] = f"{value:.5g} {format_interval(low, high)}"
        return {**rows, "over": f"{self.num_rows} {self.over}", "level": self.level}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw each statistic as a point with its interval."""
        from rlstab.analysis import plots

        return plots.intervals({"": self}, ax)


@dataclass(frozen=True, eq=False, repr=False)
class Improvement(Result):
    """Probability that a random run of X scores higher than one of Y, averaged over tasks (Mann-Whitney U)."""

    kind: ClassVar[str] = "improvement"

    x: str
    y: str
    probability: float
    """P(X > Y) plus half of the ties, from 0 to 1; 0.5: no difference."""
    low: float
    high: float
    level: float
    num_runs: tuple[int, ...]
    """Runs of X and of Y."""
    num_tasks: int
    resamples: int
    seed: int

    def summary(self) -> dict[str, Scalar]:
        """The probability with its interval."""
        name = f"P({self.x or 'X'} > {self.y or 'Y'})"
        interval = format_interval(self.low, self.high)
        return {name: f"{self.probability:.3g} {interval}", "level": self.level}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the interval against one half."""
        from rlstab.analysis import plots

        return plots.improvement(self, ax)


@dataclass(frozen=True, eq=False, repr=False)
class PerformanceProfile(Result):
    """Fraction of runs that score above each threshold: the whole distribution, without picking a statistic."""

    kind: ClassVar[str] = "performance_profile"

    label: str
    level: float
    resamples: int
    seed: int
    num_runs: int
    num_tasks: int
    threshold: FloatArray = field(metadata={"unit": "return"})
    fraction: FloatArray = field(metadata={"unit": "fraction of runs"})
    low: FloatArray = field(metadata={"unit": "fraction of runs"})
    high: FloatArray = field(metadata={"unit": "fraction of runs"})

    def summary(self) -> dict[str, Scalar]:
        """The threshold that half of the runs exceed."""
        above_half = self.threshold[self.fraction >= 0.5]
        median = float(above_half[-1]) if len(above_half) else float("nan")
        return {"runs": self.num_runs, "tasks": self.num_tasks, "half of the runs exceed": median}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the profile with its band."""
        from rlstab.analysis import plots

        return plots.performance_profiles([self], ax)


def aggregate(
    scores: ArrayLike | Mapping[str, ArrayLike],
    *,
    over: str = "runs",
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> Aggregate:
    """Interquartile mean, mean and median with percentile-bootstrap intervals, stratified by task.

    Parameters
    ----------
    scores
        See `score_matrix`. Returns of different tasks must be normalised to one scale first.
    over
        What a row is, to be said with the interval.
    level
        Coverage that is aimed at. With five runs a percentile interval is too narrow; ten or more are better.
    resamples
        Bootstrap replications.
    seed
        Of the resampling; equal arguments give equal intervals.

    Returns
    -------
    Aggregate
        With several tasks the median is rliable's: over tasks, of the mean over runs. With one task that would be
        the mean again, so there it is the median over rows.

    Examples
    --------
    >>> aggregate([1.0, 2.0, 3.0, 4.0, 100.0], resamples=100).get("iqm")[0]
    3.0
    """
    matrix = score_matrix(scores)

    def statistics(sample: FloatArray) -> FloatArray:
        from rliable import metrics

        median = metrics.aggregate_median(sample) if sample.shape[1] > 1 else np.median(sample)
        return np.array([metrics.aggregate_iqm(sample), metrics.aggregate_mean(sample), median], np.float64)

    value, low, high = bootstrap((matrix,), statistics, level=level, resamples=resamples, seed=seed)
    rows, tasks = matrix.shape
    return Aggregate(over, rows, tasks, level, resamples, seed, STATISTICS, value, low, high)


def probability_of_improvement(
    x: ArrayLike | Mapping[str, ArrayLike],
    y: ArrayLike | Mapping[str, ArrayLike],
    *,
    names: tuple[str, str] = ("X", "Y"),
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Improvement:
    """How likely a random run of X beats one of Y on a random task.

    Parameters
    ----------
    x, y
        Scores as in `score_matrix`, of the same tasks; the numbers of runs may differ. Tasks given by name are compared
        by name, those of matrices by their column.
    names
        What X and Y are called.
    level, resamples, seed
        As in `aggregate`.

    Raises
    ------
    UserError
        Different tasks, or tasks by name on one side and by column on the other.
    """
    if isinstance(x, Mapping) and isinstance(y, Mapping):
        unmatched = sorted(map(str, set(x) ^ set(y)))
        if unmatched:
            raise UserError(f"{names[0]} and {names[1]} must have the same tasks; only one has {', '.join(unmatched)}")
        y = {task: y[task] for task in x}
    first, second = score_matrix(x), score_matrix(y)
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"{names[0]} has scores of {first.shape[1]} tasks, {names[1]} of {second.shape[1]}: use the same"
        )
    if first.shape[1] > 1 and isinstance(x, Mapping) != isinstance(y, Mapping):
        raise UserError(
            f"{names[0]} and {names[1]} must both name their tasks, or both be matrices with tasks in the same columns"
        )

    def statistic(a: FloatArray, b: FloatArray) -> FloatArray:
        from rliable import metrics

        return np.array([metrics.probability_of_improvement(a, b)], np.float64)

    value, low, high = bootstrap((first, second), statistic, level=level, resamples=resamples, seed=seed)
    runs = (len(first), len(second))
    point = (float(value[0]), float(low[0]), float(high[0]))
    return Improvement(names[0], names[1], *point, level, runs, first.shape[1], resamples, seed)


def performance_profile(
    scores: ArrayLike | Mapping[str, ArrayLike],
    thresholds: ArrayLike | None = None,
    *,
    label: str = "",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PerformanceProfile:
    """Fraction of runs above each threshold, with pointwise intervals.

    Parameters
    ----------
    scores
        See `score_matrix`; several tasks must share one scale.
    thresholds
        Default: 101 values from zero, or the lowest score if it is lower, to the highest.
    label
        Name in legends.
    level, resamples, seed
        As in `aggregate`.
    """
    matrix = score_matrix(scores)
    if thresholds is None:
        thresholds = np.linspace(min(0.0, matrix.min()), matrix.max(), 101)
    taus = np.asarray(thresholds, np.float64)

    def profile(sample: FloatArray) -> FloatArray:
        from rliable import library

        return np.asarray(library.score_distributions(sample, taus), np.float64)

    value, low, high = bootstrap((matrix,), profile, level=level, resamples=resamples, seed=seed)
    runs, tasks = matrix.shape
    return PerformanceProfile(label, level, resamples, seed, runs, tasks, taus, value, low, high)
