"""Proved areas with what the literature publishes, as numbers, a table and a picture."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlstab.analysis.result import Result, Scalar
from rlstab.bench.conditions import Conditions, markdown_table, page_head
from rlstab.bench.study import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Case:
    """One benchmark of the literature."""

    env_id: str
    title: str
    box_area: float
    """Of the box within which the set is taken, in the units of the states."""
    published: float
    """Largest published certified area: Yang et al. (2024), arXiv:2404.07956, measured on their networks."""
    published_by: str
    regulator: float
    """What the best of a few LQR regulators with a quadratic form is proved for."""
    target: float
    """What this method was set out to reach."""


CASES = (
    Case("rlstab/PlantPendulum-v0", "pendulum, 6 N m", 576.0, 253.4, "network", 99.8, 240.0),
    Case("rlstab/PlantPendulumWeak-v0", "pendulum, 0.75 N m", 576.0, 202.9, "network", 8.28, 60.0),
    Case("rlstab/PlantPath-v0", "path tracking, 0.84", 36.0, 19.58, "network", 15.40, 15.4),
    Case("rlstab/PlantPathTight-v0", "path tracking, 0.5", 36.0, 14.05, "quadratic", 9.64, 9.7),
)

ABOUT = """
`rlstab train lyapunov` with the preset of the plant, then `rlstab certify`: the area of the largest level set of V,
within the box, that is proved to be left by no step and in which V falls by a thousandth a step down to an inner set.
All areas are lower bounds, grade `sound`, of the loop as it is deployed: its controller reads and commands in single
precision, which the published proofs do not consider. They leave a box of 0.1 % around the origin out; here the inner
set is part of the claim, and convergence to 0 is proved where the table says so. Published areas are those of the
released networks at the released levels, as measured elsewhere: this command trains and proves its own and verifies no
published network. LQR is the best of four weights with a quadratic form. Times are of one core of a machine that
others used too, as the load says: wall time, and processor time in brackets.
"""


@dataclass(frozen=True)
class Region:
    """One training and its proof."""

    env_id: str
    lyapunov: str
    """``network`` or ``quadratic``."""
    seed: int
    status: str
    area: float
    """At least; 0 where nothing was proved."""
    inner_area: float
    """Of the inner set, at most."""
    converges: bool
    rho: float
    c1: float
    boxes: int
    prove_s: float
    """Wall time."""
    prove_cpu_s: float
    train_s: float
    """Wall time."""
    train_cpu_s: float | None
    """None for a training of an earlier measurement."""


@dataclass(frozen=True, eq=False, repr=False)
class RegionsStudy(Result):
    """Areas over cases, kinds and seeds."""

    kind: ClassVar[str] = "regions_study"
    labels: ClassVar[tuple[str, ...]] = ("plant", "V")

    name: str
    title: str
    command: str
    regions: list[Region]
    conditions: Conditions
    settings: dict[str, Any]

    def verdict(self) -> str:
        """Say where the best area, and the median over seeds, are above what is published."""
        parts = []
        for case in self._cases():
            kind, median, best = self._leader(case)
            factor = median / case.published
            parts.append(f"{case.title}: {median:.4g} by {kind} (best {best:.4g}), {factor:.2f} of the published")
        return "; ".join(parts) + "."

    def summary(self) -> dict[str, Scalar]:
        """Median areas of the better kind."""
        return {case.title: f"{self._leader(case)[1]:.4g} ({case.published:g} published)" for case in self._cases()}

    def missing(self) -> list[str]:
        """What was not proved."""
        return [
            f"{region.env_id} {region.lyapunov} seed {region.seed}: {region.status}"
            for region in self.regions
            if region.status != "proved"
        ]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw areas as shares of the box, a point a training, with lines where the published ones are."""
        from rlstab.analysis import plots

        ax = plots.axes_or_new(ax)
        cases = self._cases()
        for index, case in enumerate(cases):
            ax.plot([index - 0.4, index + 0.4], [100.0 * case.published / case.box_area] * 2, color=plots.INK, lw=1.0)
        kinds = list(dict.fromkeys(region.lyapunov for region in self.regions))
        for place, kind in enumerate(kinds):
            points = [
                (index + 0.3 * (place - 0.5 * (len(kinds) - 1)), 100.0 * region.area / case.box_area)
                for index, case in enumerate(cases)
                for region in self.regions
                if (region.env_id, region.lyapunov) == (case.env_id, kind)
            ]
            colour = plots.COLOURS[place % len(plots.COLOURS)]
            ax.plot(*zip(*points, strict=True), "o", color=colour, markersize=4, label=kind)
        ax.plot([], [], color=plots.INK, lw=1.0, label="published")
        ax.set(xticks=range(len(cases)), ylim=(0.0, 100.0), ylabel="Proved area, % of the box")
        ax.set_xticklabels([case.title.replace(", ", "\n") for case in cases])
        plots.legend_above(ax, [*kinds, "published"])
        return ax

    def figure(self, path: Path) -> Path:
        """Draw `plot` over the width of a page."""
        from rlstab.analysis import plots

        return plots.save(self.plot(plots.new_axes("page", aspect=0.45)), path)

    def tables(self) -> list[Table]:
        """Lay out medians with published areas, then every training."""
        heads = [
            "plant",
            "V",
            "area, median (all)",
            "of the box",
            "published",
            "LQR",
            "target",
            "converges",
            "proof",
            "training",
        ]
        rows = []
        for case in self._cases():
            for kind in dict.fromkeys(region.lyapunov for region in self.regions):
                group = self._group(case, kind)
                if not group:
                    continue
                areas = [region.area for region in group]
                median = statistics.median(areas)
                rows.append(
                    [
                        case.title,
                        kind,
                        f"{median:.4g} ({', '.join(f'{area:.4g}' for area in areas)})",
                        f"{median / case.box_area:.0%}",
                        f"{case.published:g} ({case.published_by})",
                        f"{case.regulator:g}",
                        f"{case.target:g}",
                        f"{sum(region.converges for region in group)} of {len(group)}",
                        f"{_median(group, 'prove_s')} s ({_median(group, 'prove_cpu_s')} s)",
                        f"{_median(group, 'train_s')} s ({_median(group, 'train_cpu_s')} s)",
                    ]
                )
        each = [
            [
                _title(region.env_id),
                region.lyapunov,
                str(region.seed),
                region.status,
                f"{region.area:.4g}",
                f"{region.rho:.4g}",
                f"{region.c1:.3g}",
                f"{region.inner_area:.2g}",
                "yes" if region.converges else "no",
                f"{region.boxes:,}",
                f"{region.prove_s:.1f}",
            ]
            for region in self.regions
        ]
        columns = ["plant", "V", "seed", "status", "area", "rho", "c1", "inner area", "converges", "boxes", "proof, s"]
        return [("Areas", heads, rows), ("Every training", columns, each)]

    def to_markdown(self) -> str:
        """Write the page for the documentation."""
        lines = page_head(self.title, ABOUT, self.command, self.verdict())
        seeds = len({region.seed for region in self.regions})
        lines += [
            f"Each number is of {seeds} training{'s' if seeds > 1 else ''} of a plant: no interval can be given.",
            "",
        ]
        lines += [f"![Proved areas beside published ones]({self.name}.png)", ""]
        for title, columns, rows in self.tables():
            lines += [f"## {title}", "", *markdown_table(columns, rows), ""]
        return "\n".join([*lines, *self.conditions.section(self.settings)])

    def _cases(self) -> list[Case]:
        measured = {region.env_id for region in self.regions}
        return [case for case in CASES if case.env_id in measured]

    def _group(self, case: Case, kind: str) -> list[Region]:
        return [region for region in self.regions if (region.env_id, region.lyapunov) == (case.env_id, kind)]

    def _leader(self, case: Case) -> tuple[str, float, float]:
        """The kind with the larger median, its median and its best."""
        found = []
        for kind in dict.fromkeys(region.lyapunov for region in self.regions):
            areas = [region.area for region in self._group(case, kind)]
            if areas:
                found.append((kind, statistics.median(areas), max(areas)))
        return max(found, key=lambda entry: entry[1])


def _title(env_id: str) -> str:
    return next(case.title for case in CASES if case.env_id == env_id)


def _median(group: list[Region], name: str) -> str:
    values = [value for value in (getattr(region, name) for region in group) if value is not None]
    return f"{statistics.median(values):.3g}" if values else "not known"
