"""What `rlstab bench attention` returns, on either kind of device."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlstab.analysis.result import Result, Scalar
from rlstab.bench.attention_rows import RATIO, Row, Table, number, tables, to_csv
from rlstab.bench.conditions import Conditions, markdown_table
from rlstab.runs import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Check:
    """How far something is from what it should compute, and how far it may be."""

    case: str
    what: str
    error: float | None
    """``None``: it could not be computed, or is not a number."""
    limit: float
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the error is a number within the limit."""
        return self.error is not None and self.error <= self.limit


@dataclass(frozen=True)
class Target:
    """A number that was set as a goal beforehand."""

    what: str
    must: float
    stretch: float
    value: float | None
    """``None``: not measured."""
    at_most: bool = False
    """The goal is to be no larger, rather than no smaller."""

    @property
    def reached(self) -> str:
        """``"yes"``, ``"yes, and the stretch"``, ``"no"`` or ``"not measured"``."""
        if self.value is None:
            return "not measured"
        sign = -1 if self.at_most else 1
        if sign * self.value < sign * self.must:
            return "no"
        return "yes, and the stretch" if sign * self.value >= sign * self.stretch else "yes"


@dataclass(frozen=True, eq=False, repr=False)
class AttentionResult(Result):
    """Times, memory and errors of attention on one device."""

    kind: ClassVar[str] = "attention"
    labels: ClassVar[tuple[str, ...]] = ("case",)

    name: str
    title: str
    about: str
    command: str
    rows: tuple[Row, ...]
    conditions: Conditions
    timestamp: str
    checks: tuple[Check, ...] = ()
    sigmoid: tuple[tuple[str, float, float], ...] = ()
    """Mode of the sigmoid, largest absolute and largest relative error over [-30, 30]."""
    targets: tuple[Target, ...] = ()
    skipped: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Scalar]:
        """Say which goals were reached and whether results were right."""
        facts: dict[str, Scalar] = {"benchmark": self.name, "measurements": len(self.rows)}
        if self.checks:
            facts["checks that hold"] = f"{sum(check.holds for check in self.checks)} of {len(self.checks)}"
        for target in self.targets:
            value = "" if target.value is None else f" ({number(target.value)})"
            facts[target.what] = f"{target.reached}{value}"
        return facts

    def tables(self) -> list[Table]:
        """Lay the numbers out as ``(title, columns, rows of text)``."""
        found: list[Table] = []
        if self.targets:
            found.append(("Goals", ["goal", "at least or at most", "stretch", "measured", "reached"], self._goals()))
        if self.sigmoid:
            shown = [[mode, f"{absolute:.2e}", f"{relative:.2e}"] for mode, absolute, relative in self.sigmoid]
            found.append(("Error of the sigmoid over [-30, 30]", ["mode", "largest", "largest, relative"], shown))
        if self.checks:
            columns = ["case", "what", "relative error", "limit", "holds"]
            found.append(("Errors against float64", columns, [_check_cells(check) for check in self.checks]))
        return found + tables(self.rows)

    def missing(self) -> list[str]:
        """Say what was not measured, and why."""
        return list(self.skipped)

    def to_csv(self) -> str:
        """Write one line a row, in the columns of `rlstab.bench.attention_rows.COLUMNS`."""
        return to_csv(self.rows, self.conditions, self.timestamp)

    def save(self, path: str | Path) -> Path:
        """Write the result, and beside it the rows as ``.csv``."""
        target = super().save(path)
        atomic.write_text(target.with_suffix(".csv"), self.to_csv())
        return target

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw peak memory against length where it was measured, else the time of the first set."""
        import matplotlib.pyplot as plt

        if ax is None:
            ax = plt.figure(figsize=(4.5, 3.2)).gca()
        memory = [row for row in self.rows if row.metric == "peak memory"]
        first = [row for row in self.rows if row.group == self.rows[0].group and row.mode == self.rows[0].mode]
        chosen = memory or first
        for provider in dict.fromkeys(row.provider for row in chosen):
            points = [(row.x_value, row.median) for row in chosen if row.provider == provider and row.median > 0]
            ax.plot(*zip(*points, strict=True), "o-", label=provider)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlabel("Keys" if memory else chosen[0].x_name)
        ax.set_ylabel(f"{chosen[0].metric.capitalize()}, {chosen[0].unit}")
        ax.legend()
        return ax

    def figure(self, path: Path) -> Path | None:
        """Draw the page's picture, if there is memory to show."""
        if not self._pictured():
            return None
        import matplotlib.pyplot as plt

        figure, ax = plt.subplots(figsize=(4.5, 3.2))
        self.plot(ax)
        figure.tight_layout()
        figure.savefig(path, dpi=150)
        plt.close(figure)
        return path

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = [f"# {self.title}", "", self.about.strip(), "", f"Made by `{self.command}`.", ""]
        lines += [f"Every number is also a line of [{self.name}.csv]({self.name}.csv).", ""]
        if self.targets:
            reached = sum(target.reached.startswith("yes") for target in self.targets)
            lines += [f"**{reached} of {len(self.targets)} goals are reached.** {self._extremes()}".strip(), ""]
        if self.checks and not all(check.holds for check in self.checks):
            lines += ["**Some results are wrong (below): the times of those kernels mean nothing.**", ""]
        if self._pictured():
            lines += [f"![Peak memory against the number of keys]({self.name}.png)", ""]
        for title, columns, rows in self.tables():
            lines += [f"## {title}", "", *markdown_table(columns, rows), ""]
        if self.missing():
            lines += ["## Not measured", "", *(f"* {reason}" for reason in self.missing()), ""]
        hardware = {key: self.conditions.machine[key] for key in ("gpu", "driver") if key in self.conditions.machine}
        return "\n".join([*lines, *self.conditions.section({**hardware, **self.settings})])

    def _extremes(self) -> str:
        """Say where the blockwise path stands best and worst, be that where no goal was set."""
        found = [(row.median, row) for row in self.rows if row.metric == RATIO and row.provider == "blockwise"]
        if not found:
            return ""
        (least, best), (most, worst) = min(found, key=lambda pair: pair[0]), max(found, key=lambda pair: pair[0])
        return (
            f"Over all cases blockwise takes between {number(least)} ({best.case}, {best.mode}) and {number(most)} "
            f"({worst.case}, {worst.mode}) {RATIO}."
        )

    def _pictured(self) -> bool:
        return any(row.metric == "peak memory" for row in self.rows)

    def _goals(self) -> list[list[str]]:
        return [
            [
                target.what,
                f"{'at most' if target.at_most else 'at least'} {number(target.must)}",
                number(target.stretch),
                "-" if target.value is None else number(target.value),
                target.reached,
            ]
            for target in self.targets
        ]


def _check_cells(check: Check) -> list[str]:
    error = check.note or "not a number" if check.error is None else f"{check.error:.2e}"
    return [check.case, check.what, error, f"{check.limit:.2e}", "yes" if check.holds else "NO"]
