"""What came of quadrupeds trained with their preset: how well they follow commands, and what makes them fall."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlstab.analysis.result import Result, Scalar
from rlstab.analysis.robustness.battery_report import BatteryReport
from rlstab.bench.conditions import Conditions, markdown_table, page_head
from rlstab.bench.study import Table
from rlstab.bench.tracking import TrackingReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WANTED = 0.8
"""Share of the tracking reward that a trained policy should get."""

_MEASURES = (
    "nominal return",
    "CVaR10 over worlds",
    "critical push, worst direction (m/s)",
    "critical push, mean (m/s)",
    "pushes survived",
)

ABOUT = """
`rlstab train ppo --env rlstab/Go1Velocity-v0` with its preset (below), and what its last policy does without
exploration noise. *Tracking*: `exp(-|error|^2 / 0.25)` of the horizontal velocity (m/s) and of the turning rate
(rad/s), each as a share of what whole episodes of 20 s can give: after a fall nothing more is given. Together they
count two to one, as in the task's own reward, whatever the weights of the preset. Commands change at random moments,
and what is missed right after a change counts. Intervals are 95 % bootstraps over episodes: they are about these
policies, not about the method. *Standing still*: the robot keeps its reference pose and ignores its commands.

The battery is the quick one of [`rlstab robustness`](../robustness.md). Its returns are those of training, with the
preset's weights. Pushes last 0.1 s; their impulse is over the robot's mass.
"""


@dataclass(frozen=True)
class Trained:
    """One training and its tests."""

    seed: int
    minutes: float
    """Duration of the training by the clock."""
    checkpoints: list[TrackingReport]
    """In the order of training; the last one is of the final policy."""
    battery: BatteryReport

    @property
    def last(self) -> TrackingReport:
        """Tracking of the final policy."""
        return self.checkpoints[-1]


@dataclass(frozen=True, eq=False, repr=False)
class QuadrupedStudy(Result):
    """Tracking and battery of each training."""

    kind: ClassVar[str] = "quadruped_study"
    labels: ClassVar[tuple[str, ...]] = ("measure",)

    name: str
    title: str
    command: str
    trained: list[Trained]
    standing: TrackingReport
    """Of a robot that keeps its reference pose."""
    conditions: Conditions
    settings: dict[str, Any]

    def verdict(self) -> str:
        """Say whether every training reaches the share that is wanted."""
        shares = [training.last.share for training in self.trained]
        reached = "yes" if min(shares) >= WANTED else "no"
        listed = ", ".join(f"{share:.0%}" for share in shares)
        return f"At least {WANTED:.0%} of the tracking reward: {reached} ({listed})."

    def summary(self) -> dict[str, Scalar]:
        """Whether the share is reached, and what a robot that ignores its commands gets."""
        return {"verdict": self.verdict(), "standing still": f"{self.standing.share:.0%}"}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share of the tracking reward against the steps of training."""
        from rlstab.analysis import plots

        ax = plots.axes_or_new(ax)
        for index, training in enumerate(self.trained):
            colour, dash = plots.COLOURS[index % len(plots.COLOURS)], plots.DASHES[index % len(plots.DASHES)]
            steps = [report.trained_steps / 1e6 for report in training.checkpoints]
            shares = [100.0 * report.share for report in training.checkpoints]
            name = f"seed {training.seed}" if len(self.trained) > 1 else None
            ax.plot(steps, shares, color=colour, linestyle=dash, marker="o", markersize=2, label=name)
        for share, text, x, side in (
            (WANTED, "wanted", 0.02, "left"),
            (self.standing.share, "standing still", 1.0, "right"),
        ):
            ax.axhline(100.0 * share, color=plots.INK, linewidth=0.6, linestyle=(0, (1, 1)))
            ax.text(x, 100.0 * share, text, transform=ax.get_yaxis_transform(), ha=side, va="bottom", fontsize=7)
        ax.set(
            xlabel="Environment steps, millions", ylabel="Share of tracking reward, %", ylim=(0, 102), xlim=(0, None)
        )
        plots.legend_above(ax, [f"seed {training.seed}" for training in self.trained if len(self.trained) > 1])
        return ax

    def figure(self, path: Path) -> Path:
        """Draw the changed worlds on the left, tracking against steps and pushes on the right."""
        import matplotlib
        from matplotlib.figure import Figure

        from rlstab.analysis import plots as drawing
        from rlstab.analysis.robustness import plots

        batteries = [training.battery for training in self.trained]
        height = max(4.6, 0.9 + 0.2 * len(batteries[0].cells.test))
        with matplotlib.rc_context(drawing.STYLE):
            figure = Figure(figsize=(drawing.WIDTHS_INCH["page"], height), layout="constrained")
            grid = figure.add_gridspec(2, 2, width_ratios=[1.1, 1.0])
            plots.worlds({"": [battery.cells for battery in batteries]}, figure.add_subplot(grid[:, 0]))
            self.plot(figure.add_subplot(grid[0, 1]))
            pushes = [battery.pushes for battery in batteries if battery.pushes is not None]
            if pushes:
                plots.survival({"": pushes}, figure.add_subplot(grid[1, 1]))
        return drawing.save(figure, path)

    def missing(self) -> list[str]:
        """Nothing: a study is whole or not made."""
        return []

    def tables(self) -> list[Table]:
        """Lay out tracking, its course, the battery's measures and its worlds."""
        return [self._tracking(), self._course(), self._battery(), self._worlds()]

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = page_head(self.title, ABOUT, self.command, self.verdict())
        lines += [f"![Returns in changed worlds, tracking against steps, pushes survived]({self.name}.png)", ""]
        for title, columns, rows in self.tables():
            lines += [f"## {title}", "", *markdown_table(columns, rows), ""]
        return "\n".join([*lines, *self.conditions.section(self.settings)])

    @property
    def _seeds(self) -> list[str]:
        return [f"seed {training.seed}" for training in self.trained]

    def _tracking(self) -> Table:
        reports = {"standing still": self.standing} | {
            name: training.last for name, training in zip(self._seeds, self.trained, strict=True)
        }
        rows = [
            ["tracking, of the most there is", *(_share(report) for report in reports.values())],
            ["its linear part", *(f"{report.linear.mean():.1%}" for report in reports.values())],
            ["its angular part", *(f"{report.angular.mean():.1%}" for report in reports.values())],
            ["episodes that last 20 s", *(f"{1.0 - r.fell.mean():.1%}" for r in reports.values())],
            ["falls", *(f"{report.fell.sum()} of {len(report.fell)}" for report in reports.values())],
            ["minutes of training, by the clock", "", *(f"{training.minutes:.1f}" for training in self.trained)],
        ]
        return "The last policy", ["measure", *reports], rows

    def _course(self) -> Table:
        rows = [
            [f"{report.trained_steps:,}", str(training.seed), f"{report.share:.1%}", f"{report.fell.mean():.1%}"]
            for training in self.trained
            for report in training.checkpoints
        ]
        return "During training", ["environment steps", "seed", "tracking", "episodes with a fall"], rows

    def _battery(self) -> Table:
        measured = [training.battery.measures() for training in self.trained]
        rows = [[name, *(f"{values[name]:.3g}" for values in measured)] for name in _MEASURES if name in measured[0]]
        worst = (training.battery.worst_world for training in self.trained)
        rows.append(["worst world: its mean return", *(f"{name}: {value:.3g}" for name, value in worst)])
        return "The battery", ["measure", *self._seeds], rows

    def _worlds(self) -> Table:
        cells = self.trained[0].battery.cells
        rows = []
        for row, (test, value, unit) in enumerate(zip(cells.test, cells.value, cells.unit, strict=True)):
            world = test if test == "nominal" else f"{test} {value:g} {unit}".strip()
            each = [training.battery.cells for training in self.trained]
            found = (f"{part.returns[row].mean():.3g}, {part.fell[row].sum()} of {part.fell.shape[1]}" for part in each)
            rows.append([world, *found])
        return "Changed worlds: mean return, falls", ["world", *self._seeds], rows


def _share(report: TrackingReport) -> str:
    low, high = report.interval()
    return f"{report.share:.1%} [{low:.1%}, {high:.1%}]"
