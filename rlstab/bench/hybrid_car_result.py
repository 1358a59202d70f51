"""What came of drives along roads of changing friction: errors with travel time, levels, and time a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis.bootstrap import bootstrap
from rlstab.analysis.result import Result, Scalar
from rlstab.bench.conditions import Conditions, markdown_table
from rlstab.bench.hybrid_car_text import ABOUT
from rlstab.bench.study import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]
Interval = tuple[float, float, float]
"""Mean, lower and upper end."""
MAIN = ("planner", "planned, a second worth 0.2")
WORTH = 0.2


@dataclass(frozen=True)
class Row:
    """One controller on all its roads."""

    controller: str
    references: str
    seed: int | None
    """Of the training; None where nothing was trained."""
    figures: dict[str, FloatArray]
    """Name to a number for each road; see `rlstab.controllers.roa.car.drive.Drive.figures`."""
    infeasible: int
    """Plans that no candidate was feasible for."""

    @property
    def cost(self) -> FloatArray:
        """Squared error over time and what the time is worth, of each road."""
        seconds = 0.01 * self.figures["steps"]
        return (np.square(self.figures["rmse"]) + WORTH) * seconds


@dataclass(frozen=True)
class LevelCheck:
    """The calibrated level against roll-outs in configurations that neither training nor calibration has seen."""

    margin: float
    """Taken off the logarithm."""
    covered: int
    """Configurations whose measured level is not below the claimed one."""
    configurations: int
    ratio: FloatArray
    """Claimed over measured level."""
    found: int
    """Configurations with enough unstable starts for the measured level to mean something."""
    stable: float
    """Share of all starts that were stable."""
    inside: int
    """Starts inside their claimed level set."""
    violations: int
    """Those that were not stable."""
    bound: float
    """Clopper-Pearson upper bound on their share, wrong with probability 0.001."""
    friction: FloatArray
    speed: FloatArray
    measured: FloatArray
    level: FloatArray


@dataclass(frozen=True)
class Monitored:
    """How often the assumptions of the stability theorem held along drives."""

    modes: int
    inside: int
    fell: int
    in_domain: int
    whole: int
    """Drives in which A2 and A3 held; A4 is not counted."""
    drives: int
    a2_first: int
    a3_first: int
    shortest_dwell: int
    """Spans of 20 control steps."""
    jump: float
    """Median over drives of the largest ratio of ``V`` after a switch to before it."""
    needed_dwell: float
    """Spans that T3 would need for it, median over drives."""


@dataclass(frozen=True)
class Learned:
    """One training."""

    method: str
    seed: int
    seconds: float
    """By the clock."""
    steps: int
    levels: LevelCheck | None = None
    monitor: Monitored | None = None


@dataclass(frozen=True)
class Latency:
    """Wall time of one controller on one thread."""

    name: str
    decisions: FloatArray = field(metadata={"unit": "s"})
    """Each decision without planning references; of MPC each solve."""
    plans: FloatArray = field(metadata={"unit": "s"})
    """Each plan of references."""
    mean: float = 0.0
    """Everything over the number of control steps, s."""

    def with_decisions(self, decisions: FloatArray) -> Latency:
        """The same with other decisions, as the solves of MPC, one in ten steps."""
        return replace(self, decisions=decisions)


@dataclass(frozen=True)
class Track:
    """Where one controller drove along the first road."""

    controller: str
    references: str
    points: FloatArray = field(metadata={"unit": "m"})


@dataclass(frozen=True, eq=False, repr=False)
class CarStudy(Result):
    """Drives of every controller."""

    kind: ClassVar[str] = "car_study"
    labels: ClassVar[tuple[str, ...]] = ("controller",)

    name: str
    title: str
    command: str
    rows: list[Row]
    learned: list[Learned]
    latencies: list[Latency]
    tracks: list[Track]
    road: FloatArray
    """Configuration of the first road."""
    conditions: Conditions
    settings: dict[str, Any]

    def of(self, controller: str, references: str) -> list[Row]:
        """Rows of one controller, one for each training."""
        return [row for row in self.rows if (row.controller, row.references) == (controller, references)]

    def difference(self, other: tuple[str, str], figure: str) -> Interval:
        """Planner less another controller on the same roads: mean and 95 % interval, over roads as wholes."""
        ours, theirs = (self._matrix(*key, figure) for key in (MAIN, other))
        roads = min(len(ours), len(theirs))
        paired = ours[:roads].mean(1) - theirs[:roads].mean(1)
        return _means([paired])[0]

    def verdicts(self) -> list[str]:
        """What the intervals allow to say of the planner with networks, against everything it is meant to beat."""
        found = []
        for controller, references in dict.fromkeys((row.controller, row.references) for row in self.rows):
            steady = controller in ("LQR", "LQR, tuned") and references.endswith("m/s")
            if steady or references == "5 to 15 m/s, V alone":
                parts = [self._against((controller, references), figure) for figure in ("rmse", "steps")]
                found.append(f"Against {controller}, {references}: {parts[0]}; {parts[1]}.")
        for controller in ("planner by hand, LQR", "planner by hand, LQR tuned"):
            if self.of(controller, MAIN[1]):
                found.append(f"Against {controller}, {MAIN[1]}: {self._against((controller, MAIN[1]), 'cost')}.")
        times = {part.name: part.mean for part in self.latencies}
        ratios = [f"{mean / times['planner']:.1f} ({name})" for name, mean in times.items() if name.startswith("MPC")]
        if ratios:
            found.append(f"Mean time a control step, over that of the planner with networks: {', '.join(ratios)}.")
        return found

    def limits(self) -> list[str]:
        """What the verdicts do not say, with the numbers that they leave out."""
        found = []
        steady = [(name, speed) for name in ("LQR", "LQR, tuned") for speed in ("3 m/s", "5 m/s")]
        distances = [
            f"{self._matrix(*key, 'off_road').mean():.3f} m ({', '.join(key)})" for key in steady if self.of(*key)
        ]
        if self.of(*MAIN) and distances:
            found.append(
                "The planner moves its own reference by up to 1 m and its rmse is against that. From the middle of the "
                f"road it is {self._matrix(*MAIN, 'off_road').mean():.3f} m away (root mean square), others "
                f"{', '.join(distances)}."
            )
        mpc = [row for row in self.rows if row.controller.startswith("MPC")]
        if mpc:
            found.append(
                f"MPC drove {max(len(row.figures['rmse']) for row in mpc)} roads only, and after references at a given "
                "pace, never after the planner's: nothing here compares the two on equal terms."
            )
        learners = [name for name in ("SAC", "PPO") if not any(row.controller.startswith(name) for row in self.rows)]
        if learners:
            found.append(f"{' and '.join(learners)} were not run: nothing is said of reinforcement learning.")
        seen = [part.monitor for part in self.learned if part.monitor is not None]
        short = [part for part in seen if part.shortest_dwell < part.needed_dwell]
        if short:
            found.append(
                "Drives in which A2 and A3 held are none that the theorem speaks of: A4, the time that modes must "
                f"last, is left out of that count and is not met: {min(part.shortest_dwell for part in short)} span of "
                f"0.2 s, where {min(part.needed_dwell for part in short):.0f} are asked for."
            )
        return found

    def summary(self) -> dict[str, Scalar]:
        """The main row, and each verdict."""
        facts: dict[str, Scalar] = {
            name: float(self._matrix(*MAIN, name).mean()) for name in ("rmse", "valid", "steps")
        }
        return facts | {f"verdict {index + 1}": text for index, text in enumerate(self.verdicts())}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw rmse against travel time."""
        from rlstab.bench.hybrid_car_drawing import draw_pareto

        return draw_pareto(self, ax)

    def figure(self, path: Path) -> Path:
        """Draw the road with tracks, rmse against travel time, and levels."""
        from rlstab.bench.hybrid_car_drawing import draw_page

        return draw_page(self, path)

    def missing(self) -> list[str]:
        """What the options left out."""
        names = {row.controller.split(",")[0] for row in self.rows}
        return [f"{name}: left out by the options" for name in ("MPC", "SAC", "PPO") if name not in names]

    def tables(self) -> list[Table]:
        """Lay the numbers out."""
        return [self._drives(), self._seeds(), self._levels(), self._monitor(), self._latency()]

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = [f"# {self.title}", "", ABOUT.strip(), "", f"Made by `{self.command}`.", ""]
        lines += ["## What can be said", "", *(f"* {text}" for text in self.verdicts()), ""]
        lines += ["What cannot:", "", *(f"* {text}" for text in self.limits()), ""] if self.limits() else []
        lines += [
            "Intervals are 95 % bootstraps of paired differences over roads, with trainings averaged: they are about "
            "roads, and the table of seeds shows what trainings differ by. The level is *statistical*, what was seen "
            "along drives is *empirical*; nothing here is a proof.",
            "",
            f"![Tracks along the first road, rmse against travel time, levels against speed]({self.name}.png)",
            "",
        ]
        for title, columns, rows in self.tables():
            lines += [f"## {title}", "", *markdown_table(columns, rows), ""]
        if self.missing():
            lines += ["## Not measured", "", *(f"* {reason}" for reason in self.missing()), ""]
        return "\n".join([*lines, *self.conditions.section(self.settings)])

    def _matrix(self, controller: str, references: str, figure: str) -> FloatArray:
        """``(roads, trainings)``."""
        rows = self.of(controller, references)
        return np.stack([row.cost if figure == "cost" else row.figures[figure] for row in rows], 1)

    def _against(self, other: tuple[str, str], figure: str) -> str:
        value, low, high = self.difference(other, figure)
        word = "less" if high < 0.0 else "more" if low > 0.0 else "neither more nor less"
        share = value / float(self._matrix(*other, figure).mean())
        return f"{figure} {value:+.4g} [{low:+.4g}, {high:+.4g}] ({share:+.1%}), {word}"

    def _drives(self) -> Table:
        names = ("rmse", "valid", "whole", "steps", "off_road", "farthest_off_road", "cost")
        columns = ["controller", "references", "rmse", "valid", "without violation", "steps", "off road, m"]
        columns += ["farthest, m", "cost", "roads x trainings"]
        keys = list(dict.fromkeys((row.controller, row.references) for row in self.rows))
        matrices = {key: [self._matrix(*key, name) for name in names] for key in keys}
        found = _means([matrix.mean(1) for some in matrices.values() for matrix in some])
        rows = []
        for index, key in enumerate(keys):
            some = found[index * len(names) : (index + 1) * len(names)]
            cells = [_interval(interval, name) for interval, name in zip(some, names, strict=True)]
            roads, trainings = matrices[key][0].shape
            rows.append([*key, *cells, f"{roads} x {trainings}"])
        return "Drives: mean [95 % interval over roads]", columns, rows

    def _seeds(self) -> Table:
        names = ("rmse", "valid", "steps", "cost")
        rows = [
            [row.controller, row.references, str(row.seed),
             *(f"{(row.cost if name == 'cost' else row.figures[name]).mean():.4g}" for name in names),
             str(row.infeasible)]
            for row in self.rows
            if row.seed is not None
        ]  # fmt: skip
        return "Each training", ["controller", "references", "seed", *names, "infeasible plans"], rows

    def _levels(self) -> Table:
        columns = ["seed", "training, s by the clock", "margin of log level", "covered", "median claimed / measured"]
        columns += ["stable starts", "violations inside", "their share is below"]
        rows = []
        for part in self.learned:
            check = part.levels
            if check is not None:
                rows.append(
                    [str(part.seed), f"{part.seconds:.0f}", f"{check.margin:.2f}",
                     f"{check.covered} of {check.configurations}", f"{np.median(check.ratio):.2f}",
                     f"{check.stable:.1%}", f"{check.violations} of {check.inside}", f"{check.bound:.2%}"]
                )  # fmt: skip
        return "Levels in new configurations (statistical)", columns, rows

    def _monitor(self) -> Table:
        columns = ["seed", "modes", "entered inside (A3)", "V always fell (A2)", "stayed in the domain (A2)"]
        columns += ["drives in which A2 and A3 held", "first failure A2 / A3", "shortest dwell, spans of 0.2 s"]
        columns += ["largest jump M (median)", "spans that M asks for"]
        rows = []
        for part in self.learned:
            seen = part.monitor
            if seen is not None:
                rows.append(
                    [str(part.seed), str(seen.modes), *(f"{number} ({number / seen.modes:.1%})" for number in
                     (seen.inside, seen.fell, seen.in_domain)), f"{seen.whole} of {seen.drives}",
                     f"{seen.a2_first} / {seen.a3_first}", str(seen.shortest_dwell), f"{seen.jump:.3g}",
                     f"{seen.needed_dwell:.0f}"]
                )  # fmt: skip
        return "Assumptions along the planner's drives (empirical)", columns, rows

    def _latency(self) -> Table:
        columns = ["controller", "a decision: p50, ms", "p99, ms", "a plan: p50, ms", "p99, ms", "mean a step, ms"]
        columns += ["mean over the planner's"]
        ours = next((part.mean for part in self.latencies if part.name == "planner"), np.nan)
        rows = [
            [part.name, *_quantiles(part.decisions), *_quantiles(part.plans), f"{1e3 * part.mean:.3f}",
             f"{part.mean / ours:.2g}"]
            for part in self.latencies
        ]  # fmt: skip
        return (
            "Time a control step of 10 ms takes, one thread (a decision of MPC is a solve, one in ten)",
            columns,
            rows,
        )


def _means(samples: Sequence[FloatArray]) -> list[Interval]:
    """Mean and 95 % interval of each sample ``(roads,)``; samples of one length are resampled alike, at once."""
    found: dict[int, Interval] = {}
    for length in {len(sample) for sample in samples}:
        some = [index for index, sample in enumerate(samples) if len(sample) == length]
        matrix = np.stack([samples[index] for index in some], 1)
        columns = np.stack(bootstrap((matrix,), lambda drawn: drawn.mean(0), whole_rows=True), 1)
        found |= {
            index: (float(column[0]), float(column[1]), float(column[2]))
            for index, column in zip(some, columns, strict=True)
        }
    return [found[index] for index in range(len(samples))]


def _interval(interval: Interval, name: str) -> str:
    value, low, high = interval
    form = "{:.0f}" if name == "steps" else "{:.1f}" if name == "cost" else "{:.3f}"
    text = form.format(value)
    return text if not np.isfinite(low) else f"{text} [{form.format(low)}, {form.format(high)}]"


def _quantiles(seconds: FloatArray) -> list[str]:
    return [f"{1e3 * np.quantile(seconds, share):.3f}" if len(seconds) else "-" for share in (0.5, 0.99)]
