"""Batteries of several policies side by side: one table, one figure, intervals over the trainings of each method."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.stats import trim_mean

from rlstab.analysis import stats
from rlstab.analysis.bootstrap import bootstrap, format_interval
from rlstab.analysis.result import Result, Scalar
from rlstab.analysis.robustness.battery_report import BatteryReport
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LESS_IS_BETTER = ("gain at",)


@dataclass(frozen=True, eq=False, repr=False)
class RobustnessComparison(Result):
    """Batteries of one environment, by method. Intervals are over the trainings of a method."""

    kind: ClassVar[str] = "robustness_comparison"

    env_id: str
    reports: dict[str, list[BatteryReport]]
    """Method to the report of each of its trainings."""
    level: float = field(default=0.95)
    """Coverage that the intervals aim at."""
    resamples: int = field(default=2000)
    """Bootstrap replications."""

    @functools.cached_property
    def measures(self) -> tuple[str, ...]:
        """Measures that every report has."""
        every = [measured for runs in self._measured.values() for measured in runs]
        return tuple(name for name in every[0] if all(name in other for other in every))

    def values(self, method: str, measure: str) -> np.ndarray:
        """A measure of each training of a method, ``(runs,)``."""
        return np.array([measured[measure] for measured in self._measured[method]])

    @functools.cached_property
    def _measured(self) -> dict[str, list[dict[str, float]]]:
        return {name: [report.measures() for report in runs] for name, runs in self.reports.items()}

    def interval(self, method: str, measure: str) -> tuple[float, float, float]:
        """Interquartile mean over trainings and its interval, whose bounds are NaN where there is one training.

        The median where one is infinite: a gain of a robot that falls by itself, or a robot that nothing fells.
        """
        values = self.values(method, measure)
        if not np.isfinite(values).all():
            return float(np.median(values)), float("nan"), float("nan")
        column = self._finite(method).index(measure)
        value, low, high = self._intervals[method]
        return float(value[column]), float(low[column]), float(high[column])

    def _finite(self, method: str) -> list[str]:
        return [measure for measure in self.measures if np.isfinite(self.values(method, measure)).all()]

    @functools.cached_property
    def _intervals(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Those of all finite measures of a method at once: resampling is what takes long."""

        def interquartile_means(sample: np.ndarray) -> np.ndarray:
            return np.asarray(trim_mean(sample, 0.25, axis=0), np.float64)

        found = {}
        for method in self.reports:
            scores = np.stack([self.values(method, measure) for measure in self._finite(method)], axis=1)
            found[method] = bootstrap(
                (scores,), interquartile_means, level=self.level, resamples=self.resamples, whole_rows=True
            )
        return found

    def improvement(self, method: str, other: str, measure: str) -> stats.Improvement:
        """Probability that a random training of ``method`` is better than one of ``other``."""
        sign = -1.0 if measure.startswith(LESS_IS_BETTER) else 1.0
        x, y = (sign * np.nan_to_num(self.values(name, measure), posinf=1e30) for name in (method, other))
        return stats.probability_of_improvement(x, y, names=(method, other), resamples=self.resamples)

    def cell(self, method: str, measure: str) -> str:
        """Text of the interquartile mean with its interval."""
        value, low, high = self.interval(method, measure)
        return f"{value:.4g} {format_interval(low, high)}".strip()

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows of text: a row a measure, a column a method."""
        columns = ["measure", *(f"{name} ({len(runs)})" for name, runs in self.reports.items())]
        rows = [[measure, *(self.cell(name, measure) for name in self.reports)] for measure in self.measures]
        return columns, rows

    def summary(self) -> dict[str, Scalar]:
        """Each measure of each method."""
        return {f"{m}, {name}": self.cell(name, m) for m in self.measures for name in self.reports}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw survival of pushes, or else returns in changed worlds."""
        from rlstab.analysis.robustness import plots

        pushes = {name: [r.pushes for r in runs if r.pushes is not None] for name, runs in self.reports.items()}
        if all(pushes.values()):
            return plots.survival(pushes, ax)
        return plots.worlds({name: [report.cells for report in runs] for name, runs in self.reports.items()}, ax)

    def figure(self, path: Path) -> Path:
        """Write one picture of everything."""
        from rlstab.analysis import plots as drawing
        from rlstab.analysis.robustness import plots

        return drawing.save(plots.comparison(self.reports), path)


def compare(reports: Mapping[str, Sequence[BatteryReport]]) -> RobustnessComparison:
    """Put batteries side by side.

    Parameters
    ----------
    reports
        Method to the reports of its trainings.

    Raises
    ------
    UserError
        There are none, or they are of different environments, or of different batteries: such numbers do not compare.
    """
    every = [report for runs in reports.values() for report in runs]
    if not every or not all(reports.values()):
        raise UserError("there are no robustness reports to compare")
    for what, values in (
        ("environments", {report.env_id for report in every}),
        ("batteries", {report.level for report in every}),
        ("tests", {", ".join(dict.fromkeys(report.cells.test)) for report in every}),
        ("numbers of episodes", {report.episodes for report in every}),
        ("seeds", {report.seed for report in every}),
        ("forces of adversaries", {tuple(part.max_force for part in r.adversaries) for r in every if r.adversaries}),
        ("budgets of adversaries", {part.steps for r in every for part in r.adversaries}),
    ):
        if len(values) > 1:
            listed = ", ".join(sorted(map(str, values)))
            raise UserError(f"these batteries have different {what} ({listed}): only equal budgets compare")
    return RobustnessComparison(every[0].env_id, {name: list(runs) for name, runs in reports.items()})
