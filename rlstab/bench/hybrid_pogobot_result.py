"""What came of hopping through corridors: success, speed kept, time taken, and what the theorem's monitor saw."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis.bootstrap import bootstrap
from rlstab.analysis.certificates.lyapunov.statistical import clopper_pearson_interval
from rlstab.analysis.result import Result, Scalar
from rlstab.bench.conditions import Conditions, markdown_table, page_head
from rlstab.bench.hybrid_pogobot_parts import Contender, LevelCheck, Watched
from rlstab.bench.hybrid_pogobot_text import ABOUT
from rlstab.bench.study import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]
_KINDS = ("level", "step up", "step down", "table")
WANTED = 36 / 40
"""Share of corridors that the planner is to beat: the best of the controllers without one in independent code."""


@dataclass(frozen=True, eq=False, repr=False)
class PogobotStudy(Result):
    """Every controller in every corridor."""

    kind: ClassVar[str] = "pogobot_study"
    labels: ClassVar[tuple[str, ...]] = ("measure",)

    name: str
    title: str
    command: str
    kinds: NDArray[np.int64]
    contenders: list[Contender]
    """The first is the one that the others are compared with."""
    levels: list[LevelCheck]
    watched: list[Watched]
    rebuilt_ms: float = field(metadata={"unit": "ms"})
    """CPU time of a decision of the MPC whose problem is built anew at every hop."""
    drawn: FloatArray
    """``(segments, 4)``: the corridor in the picture."""
    conditions: Conditions
    settings: dict[str, Any]

    def verdict(self) -> str:
        """Say whether the planner beats the mark, and whom it is ahead of beyond doubt."""
        ours, n = self.contenders[0], len(self.kinds)
        counts = [int(part.success.sum()) for part in ours.flown]
        listed = ", ".join(map(str, counts))
        ahead = [other.name for other in self.contenders[1:] if self.paired(other, "success")[1] > 0.0]
        level = [other.name for other in self.contenders[1:] if other.name not in ahead]
        first = f"More than {WANTED:.0%} of corridors: {'yes' if min(counts) > WANTED * n else 'no'} ({listed} of {n})."
        names = ("; ".join(ahead) or "none", "; ".join(level) or "none")
        return (
            f"{first} It passes more, the 95 % interval says, than: {names[0]}. No difference is shown to: {names[1]}."
        )

    def claims(self) -> list[str]:
        """Hold the publication's claims of speed to these numbers, and say what the sets and levels are worth."""
        ours = self.contenders[0]
        mpc = next((part.flown[0] for part in self.contenders if part.name.startswith("MPC")), None)
        lines = []
        if mpc is not None:
            mine = [float(np.mean([getattr(one, name) for one in ours.flown])) for name in ("cpu50_ms", "cpu99_ms")]
            lines.append(
                f"Published: 10 to 50 times as fast as MPC. Here, in CPU time: an MPC that is built once takes "
                f"{mpc.cpu50_ms / mine[0]:.1f} times as long in the median and {mpc.cpu99_ms / mine[1]:.1f} times at "
                f"the 99th percentile; one that is rebuilt at every hop, {self.rebuilt_ms / mine[0]:.0f} times."
            )
        sets = [part for part in self.contenders[1:] if "ignores the sets" in part.name or "hand-made" in part.name]
        if sets and all(int(part.passed.sum()) >= int(ours.passed.sum()) for part in sets):
            names = "; ".join(part.name for part in sets)
            lines.append(
                f"Of the learned sets: as many corridors are passed without them ({names}), so that they add nothing "
                "to success on these maps that could be measured."
            )
        if self.levels and not any(check.found.any() for check in self.levels):
            lines.append(
                "Of the levels: no reference had 50 unstable starts, so that measured levels are the cap up to which "
                "starts are drawn. Claimed over measured is about that cap, and not about where stability ends."
            )
        learned = [part for part in self.contenders if part.name.endswith("short budget")]
        if learned:
            equal = [part.name for part in learned if part.mean("success").mean() >= ours.mean("success").mean()]
            reached = f"{', '.join(equal)} too" if equal else "none of them reached it, so that no ratio is shown"
            minutes = ", ".join(
                f"{part.name.partition(',')[0]} {np.mean([one.minutes for one in part.flown]):.1f}" for part in learned
            )
            lines.append(
                f"Published: a quarter of the training time of other learned methods. Here: "
                f"{np.mean([one.minutes for one in ours.flown]):.1f} minutes by the clock; {minutes}. To the same "
                f"success: {reached}."
            )
        return lines

    def paired(self, other: Contender, quantity: str) -> tuple[float, float, float]:
        """Mean difference ``ours - other`` and its 95 % interval, a bootstrap over corridors.

        Of success over all corridors, of anything else over those that both pass; NaN where there are none.
        """
        ours = self.contenders[0]
        kept = np.ones(len(self.kinds), bool) if quantity == "success" else ours.passed & other.passed
        difference = (ours.mean(quantity) - other.mean(quantity))[kept]
        if len(difference) < 2:
            return math.nan, math.nan, math.nan
        value, low, high = bootstrap((difference[:, None],), lambda rows: rows.mean(0), whole_rows=True)
        return float(value[0]), float(low[0]), float(high[0])

    def summary(self) -> dict[str, Scalar]:
        """The verdict, and each controller's corridors."""
        counts = {part.name: _counts(part) for part in self.contenders}
        return {"verdict": self.verdict(), **counts}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share of corridors that each controller passes, with exact 95 % intervals."""
        from rlstab.analysis import plots

        ax = plots.axes_or_new(ax)
        names = [f"{part.name}  {row}" for row, part in enumerate(self.contenders, 1)][::-1]
        for row, part in enumerate(self.contenders[::-1]):
            share, low, high = _share(part)
            colour = plots.COLOURS[0] if part is self.contenders[0] else plots.INK
            ax.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=1.2)
            ax.plot(100 * share, row, "o", color=colour, markersize=4)
        ax.axvline(100 * WANTED, color=plots.INK, linewidth=0.6, linestyle=(0, (1, 1)))
        ax.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 102), xlabel="Corridors passed, %")
        return ax

    def figure(self, path: Path) -> Path:
        """Draw one corridor with two paths, success, and speed error against time of deciding."""
        import matplotlib
        from matplotlib.figure import Figure

        from rlstab.analysis import plots
        from rlstab.envs.hybrid.pogobot_drawing import draw_corridor

        with matplotlib.rc_context(plots.STYLE):
            figure = Figure(figsize=(plots.WIDTHS_INCH["page"], 4.6), layout="constrained")
            grid = figure.add_gridspec(2, 2, height_ratios=[1.0, 1.6])
            top = figure.add_subplot(grid[0, :])
            draw_corridor(top, self.drawn, float(self.drawn[:, 0].sum()))
            band = next((part for part in self.contenders if part.name.startswith("deadbeat, border")), None)
            for index, part in enumerate(part for part in (self.contenders[0], band) if part is not None):
                style = {"color": plots.COLOURS[index], "linestyle": plots.DASHES[index], "linewidth": 1.0}
                top.plot(*part.flown[0].path.T, label=part.name, **style)
            top.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), fontsize=7, frameon=False, ncols=2)
            self.plot(figure.add_subplot(grid[1, 0]))
            right = figure.add_subplot(grid[1, 1])
            for index, part in enumerate(self.contenders):
                if not part.passed.any():
                    continue
                error = float(part.mean("rmse")[part.passed].mean())
                time = float(np.mean([one.cpu50_ms for one in part.flown]))
                colour = plots.COLOURS[0] if index == 0 else plots.INK
                right.plot(time, error, "o", color=colour, markersize=4)
                right.annotate(str(index + 1), (time, error), xytext=(3, 3), textcoords="offset points", fontsize=7)
            right.set(
                xscale="log",
                yscale="log",
                xlabel="Deciding, median CPU ms a hop",
                ylabel="RMSE of speed where passed, m/s",
            )
        return plots.save(figure, path)

    def missing(self) -> list[str]:
        """Nothing: a study is whole or not made."""
        return []

    def tables(self) -> list[Table]:
        """Lay out results, differences, kinds of corridor, levels and the monitor."""
        return [self._results(), self._differences(), self._by_kind(), self._levels(), self._monitor()]

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = page_head(self.title, ABOUT, self.command, self.verdict())
        lines += [*(f"* {claim}" for claim in self.claims()), ""]
        lines += [f"![One corridor, corridors passed, speed error against deciding]({self.name}.png)", ""]
        for title, columns, rows in self.tables():
            lines += [f"## {title}", "", *markdown_table(columns, rows), ""]
        return "\n".join([*lines, *self.conditions.section(_worded(self.settings))])

    def _results(self) -> Table:
        columns = ["controller", "passed", "share [95 %]", "valid", "mean speed error, m/s", "RMSE, m/s"]
        columns += ["travel, s", "deciding p50 / p99: CPU, ms", "by the clock, ms", "ms per m", "training, min"]
        rows = []
        for part in self.contenders:
            share, low, high = _share(part)
            kept = part.passed
            means = [_mean(part.mean(name)[kept]) for name in ("speed_error", "rmse", "travel_s")]
            times = [
                np.mean([getattr(one, name) for one in part.flown])
                for name in ("cpu50_ms", "cpu99_ms", "p50_ms", "p99_ms")
            ]
            minutes = ", ".join(f"{one.minutes:.1f}" for one in part.flown if one.minutes)
            rows.append(
                [
                    part.name,
                    _counts(part),
                    f"{share:.3f} [{low:.3f}, {high:.3f}]",
                    f"{part.mean('valid').mean():.3f}",
                    *means,
                    f"{times[0]:.3g} / {times[1]:.3g}",
                    f"{times[2]:.3g} / {times[3]:.3g}",
                    f"{part.mean('ms_per_m').mean():.3g}",
                    minutes or "none",
                ]
            )
        built = next((one.build_s for part in self.contenders for one in part.flown if one.build_s), 0.0)
        note = f"building once takes {built:.1f} s" if built else ""
        rows.append(["MPC rebuilt at every hop", note, *[""] * 5, f"{self.rebuilt_ms:.0f} (a few hops)", *[""] * 3])
        return "Results", columns, rows

    def _differences(self) -> Table:
        columns = ["against", "success", "RMSE where both pass, m/s", "travel where both pass, s"]
        rows = []
        for other in self.contenders[1:]:
            cells = []
            for quantity in ("success", "rmse", "travel_s"):
                value, low, high = self.paired(other, quantity)
                cells.append("-" if math.isnan(value) else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]")
            rows.append([other.name, *cells])
        return f"{self.contenders[0].name} less the others: mean [95 % over corridors]", columns, rows

    def _by_kind(self) -> Table:
        present = [kind for kind in range(len(_KINDS)) if (self.kinds == kind).any()]
        columns = ["controller", *(f"{_KINDS[kind]} ({int((self.kinds == kind).sum())})" for kind in present)]
        rows = [
            [
                part.name,
                *(", ".join(str(int(one.success[self.kinds == kind].sum())) for one in part.flown) for kind in present),
            ]
            for part in self.contenders
        ]
        return "Corridors passed, by kind", columns, rows

    def _levels(self) -> Table:
        columns = ["seed", "margin of the logarithm", "new references", "claimed at most measured [95 %]"]
        columns += ["claimed / measured, median [5 %, 95 %]", "measured levels", "with 50 unstable starts"]
        rows = []
        for check in self.levels:
            n, holds = len(check.claimed), int((check.claimed <= check.measured).sum())
            low, high = clopper_pearson_interval(holds, n, 0.05)
            ratio = np.quantile(check.claimed / np.maximum(check.measured, 1e-4), [0.5, 0.05, 0.95])
            spread = f"{check.measured.min():.3g} to {check.measured.max():.3g}"
            rows.append(
                [
                    *(str(check.seed), f"{check.margin:.4f}", str(n)),
                    f"{holds / n:.3f} [{low:.3f}, {high:.3f}]",
                    f"{ratio[0]:.3f} [{ratio[1]:.3f}, {ratio[2]:.3f}]",
                    spread,
                    f"{check.found.mean():.1%}",
                ]
            )
        return "Levels, on new references (statistical)", columns, rows

    def _monitor(self) -> Table:
        columns = ["seed", "modes", "entered inside (A3)", "V always fell (A2)", "corridors where all held"]
        columns += ["shortest dwell, hops", "largest jump of V", "what failed first"]
        rows = [
            [
                *("-" if seen.seed is None else str(seen.seed), str(seen.modes), f"{seen.inside / seen.modes:.1%}"),
                *(f"{seen.fell / seen.modes:.1%}", f"{seen.held} of {seen.corridors}", str(seen.shortest_dwell)),
                f"{seen.largest_jump:.3g}",
                ", ".join(f"{name} in {count}" for name, count in seen.first_failures.items()) or "nothing",
            ]
            for seen in self.watched
        ]
        return f"What the monitor saw of the {self.contenders[0].name} (empirical)", columns, rows


def _counts(part: Contender) -> str:
    return f"{', '.join(str(int(one.success.sum())) for one in part.flown)} of {len(part.flown[0].success)}"


def _share(part: Contender) -> tuple[float, float, float]:
    """Share of corridors passed, and the exact interval as if the mean over trainings, rounded down, were one count."""
    n = len(part.flown[0].success)
    share = float(part.mean("success").mean())
    low, high = clopper_pearson_interval(math.floor(share * n + 1e-9), n, 0.05)
    return share, low, high


def _mean(values: FloatArray) -> str:
    return f"{values.mean():.3f}" if len(values) else "-"


def _worded(settings: dict[str, Any]) -> dict[str, Any]:
    """As they are, with a single seed in the singular, which files of earlier measurements do not have."""
    return {
        name: f"1 seed,{value.removeprefix('1 seeds,')}" if str(value).startswith("1 seeds,") else value
        for name, value in settings.items()
    }
