"""What came of leading the compass walker from gait to gait: success of each controller, its price, and the regions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis.result import Result, Scalar
from rlstab.bench.conditions import Conditions, markdown_table, page_head
from rlstab.bench.hybrid_walker_rows import Decisions, Slice, Trained, Walks, difference, interval
from rlstab.bench.hybrid_walker_text import ABOUT, CAPTION
from rlstab.bench.study import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, RIVAL = "planner, networks", "look-ahead, simulated"
PLAIN, SIMULATED = f"{OURS}, no bridges", "planner, simulated"


@dataclass(frozen=True, eq=False, repr=False)
class WalkerStudy(Result):
    """Everything that the page shows."""

    kind: ClassVar[str] = "walker_study"
    labels: ClassVar[tuple[str, ...]] = ("controller", "starts")

    name: str
    title: str
    command: str
    walks: list[Walks]
    decisions: list[Decisions]
    trained: list[Trained]
    slice: Slice
    conditions: Conditions
    settings: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    """What was not measured, and why."""

    def find(self, controller: str, experiment: str) -> Walks | None:
        """Look up a row."""
        for row in self.walks:
            if (row.controller, row.experiment) == (controller, experiment):
                return row
        return None

    def advantage(self, other: str, experiment: str, ours: str = OURS) -> tuple[float, float, float]:
        """How many more starts of the same set ``ours`` leads to the goal than ``other``, with its interval."""
        one, another = self.find(ours, experiment), self.find(other, experiment)
        if one is None or another is None:
            return float("nan"), float("nan"), float("nan")
        return difference(one.reached, another.reached)

    def verdict(self) -> str:
        """Say how the planner stands against simulation with the actions it has and without, and what it costs."""
        costs = {row.controller: row.per_period() for row in self.decisions}
        text = (
            f"With bridges, which look-ahead does not have, the planner on networks against look-ahead by simulation: "
            f"{self._compared(OURS, RIVAL)}."
        )
        if any(row.controller == PLAIN for row in self.walks):
            text += f" Without bridges, from the same actions: {self._compared(PLAIN, RIVAL, shares=True)}."
        if any(row.controller == SIMULATED for row in self.walks):
            text += f" With bridges against the same planner on simulated regions: {self._compared(OURS, SIMULATED)}"
            if OURS in costs and SIMULATED in costs:
                text += f", at 1/{costs[SIMULATED] / costs[OURS]:.0f} of its computing time"
            text += "."
        if OURS in costs and "MPC, simulated" in costs:
            text += f" MPC by simulation computes {costs['MPC, simulated'] / costs[OURS]:.1f} times as long."
        left_out = [reason.partition(":")[0] for reason in self.left_out]
        return f"{text} Not run: {', '.join(left_out)}." if left_out else text

    def experiments(self) -> list[str]:
        """Sets of starts."""
        return list(dict.fromkeys(row.experiment for row in self.walks))

    def summary(self) -> dict[str, Scalar]:
        """The verdict."""
        return {"verdict": self.verdict()}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw what each controller reaches, with intervals."""
        from rlstab.analysis import plots

        ax = plots.axes_or_new(ax)
        names = list(dict.fromkeys(row.controller for row in self.walks))
        for index, experiment in enumerate(self.experiments()):
            shift = 0.16 * (index - 0.5 * (len(self.experiments()) - 1))
            for place, name in enumerate(reversed(names)):
                row = self.find(name, experiment)
                if row is None:
                    continue
                value, low, high = interval(row.reached)
                ax.plot([100 * low, 100 * high], [place - shift] * 2, color=plots.COLOURS[index], linewidth=1.5)
                label = experiment if place == len(names) - 1 else None
                ax.plot([100 * value], [place - shift], "os"[index % 2], color=plots.COLOURS[index], ms=4, label=label)
        ax.set_yticks(range(len(names)), list(reversed(names)))
        ax.set(xlabel="Goal reached, % of starts", xlim=(-2, 102))
        ax.grid(axis="x", linewidth=0.3)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=7, frameon=False)
        return ax

    def figure(self, path: Path) -> Path:
        """Draw success on the left, time of decisions and a slice of the region on the right."""
        import matplotlib
        from matplotlib.figure import Figure

        from rlstab.analysis import plots

        with matplotlib.rc_context(plots.STYLE):
            figure = Figure(figsize=(plots.WIDTHS_INCH["page"], 5.0), layout="constrained")
            grid = figure.add_gridspec(2, 2, width_ratios=[1.1, 1.0])
            self.plot(figure.add_subplot(grid[:, 0]))
            self._draw_times(figure.add_subplot(grid[0, 1]))
            self._draw_slice(figure.add_subplot(grid[1, 1]))
        return plots.save(figure, path)

    def missing(self) -> list[str]:
        """What was not measured, and why."""
        return list(self.left_out)

    def tables(self) -> list[Table]:
        """Lay out success, time, training, and what was seen of the regions."""
        return [self._success(), self._differences(), self._times(), self._training(), self._monitor()]

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = page_head(self.title, ABOUT, self.command, self.verdict())
        lines += [f"![Goals reached, time of decisions, a slice of a region of attraction]({self.name}.png)", ""]
        lines += [CAPTION.strip(), ""]
        for title, columns, rows in self.tables():
            lines += [f"## {title}", "", *markdown_table(columns, rows), ""]
        if self.left_out:
            lines += ["## Not measured", "", *(f"* {reason}" for reason in self.left_out), ""]
        return "\n".join([*lines, *self.conditions.section(self.settings)])

    def _compared(self, ours: str, other: str, shares: bool = False) -> str:
        parts = []
        for experiment in self.experiments():
            gain, low, high = self.advantage(other, experiment, ours)
            word = "more" if low > 0.0 else "less" if high < 0.0 else "no clear difference"
            rows = [self.find(name, experiment) for name in (ours, other)]
            means = " against ".join(f"{row.reached.mean():.3f}" for row in rows if row is not None)
            shown = f"{means}, " if shares else ""
            parts.append(f"{experiment}: {shown}{gain:+.1%} [{low:+.1%}, {high:+.1%}] ({word})")
        return "; ".join(parts)

    def _success(self) -> Table:
        rows = [
            [
                row.controller,
                f"{row.experiment}, {row.reached.shape[1]}",
                _share(row.reached),
                _share(row.first_step),
                _share(row.lasting),
                f"{np.nanmean(row.seconds):.2f}" if np.isfinite(row.seconds).any() else "-",
                f"{np.nanmean(row.error):.3f}" if np.isfinite(row.error).any() else "-",
                str(len(row.reached)) if row.controller.startswith(("planner, networks", "SAC", "PPO")) else "-",
            ]
            for row in self.walks
        ]
        columns = ["controller", "starts", "reached", "first step", "lasting", "time, s", "error", "trainings"]
        return "Success", columns, rows

    def _differences(self) -> Table:
        rows = []
        for name in dict.fromkeys(row.controller for row in self.walks):
            if name != OURS:
                found = (self.advantage(name, experiment) for experiment in self.experiments())
                shown = (f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]" if gain == gain else "-" for gain, low, high in found)
                rows.append([name, *shown])
        return (
            f"By how much more {OURS}, reaches than others, from the same starts",
            ["than", *self.experiments()],
            rows,
        )

    def _times(self) -> Table:
        rows = []
        for row in self.decisions:
            middle, late = (1e3 * float(value) for value in np.quantile(row.seconds, (0.5, 0.99)))
            control = "-"
            if len(row.control_seconds):
                low, high = (1e3 * float(value) for value in np.quantile(row.control_seconds, (0.5, 0.99)))
                control = f"{low:.3g}, {high:.3g}"
            whole = f"{1e3 * row.per_period():.3g}"
            rows.append([row.controller, f"{middle:.3g}", f"{late:.3g}", f"{row.periods:.3g}", control, whole])
        columns = [
            "controller",
            "decision p50",
            "decision p99",
            "periods a decision",
            "torque p50, p99",
            "mean a period",
        ]
        return "Computing time for one walker, ms of its thread on the processor", columns, rows

    def _training(self) -> Table:
        rows = []
        for one in self.trained:
            said = one.regions
            rows.append([
                str(one.seed), f"{one.seconds / 60.0:.1f}", f"{said.level:.3f}",
                "{:.2f}, {:.2f}, {:.2f}".format(*said.measured), f"{said.covered:.0%} ({said.calibration:.0%})",
                f"{said.acceptance:.1%}", f"{said.recall:.1%}",
                f"{said.failures} of {said.samples}: < {said.failure_bound:.2%}",
                f"{said.rises}: < {said.rise_bound:.2%}",
            ])  # fmt: skip
        title = "Regions of attraction that were learned. Grade: statistical"
        if self.trained:
            said = self.trained[0].regions
            title += f" (each bound wrong with probability {said.delta:g}; V shall fall by {said.alpha:.0%} a step)"
        columns = [
            "seed", "minutes of training", "level", "measured levels: 10, 50, 90 %", "gaits covered (promised)",
            "inside, of all states", "inside, of those that stay", "fall from inside", "V does not fall",
        ]  # fmt: skip
        return title, columns, rows

    def _monitor(self) -> Table:
        rows = [
            [
                str(one.seed), str(one.monitored.walks), f"{one.monitored.inside} of {one.monitored.modes}",
                f"{one.monitored.falling} of {one.monitored.modes}", str(one.monitored.bridges),
                f"{one.monitored.clean} of {one.monitored.walks}", f"{one.monitored.longest_needed_dwell:.3g}",
            ]
            for one in self.trained
        ]  # fmt: skip
        columns = [
            "seed",
            "walks",
            "begun inside (A3)",
            "V fell all along (A2)",
            "bridges",
            "nothing failed",
            "dwell of T3",
        ]
        return "What the monitor saw of the theorem's assumptions. Grade: empirical", columns, rows

    def _draw_times(self, ax: Axes) -> None:
        from rlstab.analysis import plots

        rows = list(reversed(self.decisions))
        for place, row in enumerate(rows):
            middle, late = (1e3 * float(value) for value in np.quantile(row.seconds, (0.5, 0.99)))
            colour = plots.COLOURS[1] if row.controller == OURS else plots.COLOURS[0]
            ax.plot([middle, late], [place] * 2, color=colour, linewidth=1.5)
            ax.plot([middle], [place], "o", color=colour, ms=4)
        ax.set_yticks(range(len(rows)), [row.controller for row in rows])
        ax.set_xscale("log")
        ax.set_xlabel("Decision: median to 99 %, ms")
        ax.grid(axis="x", linewidth=0.3)

    def _draw_slice(self, ax: Axes) -> None:
        from rlstab.analysis import plots

        part = self.slice
        across, up = np.meshgrid(part.first, part.second)
        ax.plot(across[part.stable], up[part.stable], ".", color=plots.COLOURS[2], ms=2, label="stays, simulated")
        ax.contour(part.first, part.second, part.values, [part.level], colors=[plots.COLOURS[1]], linewidths=1.5)
        ax.plot([], [], color=plots.COLOURS[1], linewidth=1.5, label="V = level")
        ax.set(xlabel="Rate of the stance leg, rad/s", ylabel="Rate of the swing leg, rad/s")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=6, frameon=False)


def _share(outcomes: NDArray[np.bool_]) -> str:
    value, low, high = interval(outcomes)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
