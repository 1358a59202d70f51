"""What came of a policy in a robustness battery."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis.result import Result, Scalar
from rlstab.analysis.robustness.adversary import AdversaryReport
from rlstab.analysis.robustness.cells import GRID, NOMINAL
from rlstab.analysis.robustness.gain import GainCurve
from rlstab.analysis.robustness.pushes import PushReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TAIL = 0.1


def against(force: float) -> str:
    """Name of the measure: mean return against the strongest adversary with such a force, in weights of the robot."""
    return f"return against an adversary of {force:g} weights"


@dataclass(frozen=True, eq=False, repr=False)
class CellReport(Result):
    """Episodes in changed worlds; row ``i`` is world ``i``."""

    kind: ClassVar[str] = "battery_cells"

    test: tuple[str, ...]
    unit: tuple[str, ...]
    value: NDArray[np.float64] = field(metadata={"unit": "see unit"})
    second: NDArray[np.float64] = field(metadata={"unit": "factor"})
    returns: NDArray[np.float64] = field(metadata={"unit": "return"})
    """``(cells, episodes)``."""
    lengths: NDArray[np.int64] = field(metadata={"unit": "control steps"})
    """``(cells, episodes)``."""
    fell: NDArray[np.bool_] = field(metadata={"unit": "bool"})
    """``(cells, episodes)``."""

    def summary(self) -> dict[str, Scalar]:
        """Mean return in each world."""
        parts = zip(self.test, self.value, self.unit, strict=True)
        names = [f"{test} {value:g} {unit}".strip() for test, value, unit in parts]
        return {name: float(row.mean()) for name, row in zip(names, self.returns, strict=True)}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the mean return of each world."""
        from rlstab.analysis.robustness import plots

        return plots.worlds({"": [self]}, ax)


@dataclass(frozen=True, eq=False, repr=False)
class BatteryReport(Result):
    """What came of a policy in the battery. Nothing here is a proof: it is what was tried."""

    kind: ClassVar[str] = "battery"

    env_id: str
    policy: str
    level: str
    episodes: int
    seed: int
    cells: CellReport
    pushes: PushReport | None
    gain: GainCurve | None
    adversaries: tuple[AdversaryReport, ...]
    """The strongest of those trained, for each longest force, which rises."""

    @property
    def nominal_return(self) -> float:
        """Mean return in the unchanged world."""
        return float(self.cells.returns[self.cells.test.index(NOMINAL)].mean())

    @property
    def cvar10(self) -> float:
        """Mean of the worst tenth of all episodes, each world with as many."""
        pooled = np.sort(self.cells.returns.ravel())
        return float(pooled[: max(1, round(_TAIL * len(pooled)))].mean())

    @property
    def worst_world(self) -> tuple[str, float]:
        """World with the lowest mean return, and that."""
        means = self.cells.returns.mean(axis=1)
        row = int(means.argmin())
        return f"{self.cells.test[row]} {self.cells.value[row]:g} {self.cells.unit[row]}".strip(), float(means[row])

    def areas(self) -> dict[str, float]:
        """Mean return along each test's axis, the unchanged world included, by the trapezoid rule.

        The axis is the logarithm of a factor, or the value itself. Worlds of equal value count by their mean.
        """
        cells, found = self.cells, {}
        means = cells.returns.mean(axis=1)
        for test in dict.fromkeys(cells.test):
            if test in (NOMINAL, GRID):
                continue
            rows = [row for row, name in enumerate(cells.test) if name == test]
            factor = cells.unit[rows[0]] == "factor"
            points: dict[float, list[float]] = {0.0: [self.nominal_return]}
            for row in rows:
                place = float(np.log(cells.value[row])) if factor else float(cells.value[row])
                points.setdefault(place, []).append(float(means[row]))
            axis = np.array(sorted(points))
            heights = np.array([np.mean(points[place]) for place in axis])
            found[test] = float(np.trapezoid(heights, axis) / (axis[-1] - axis[0]))
        return found

    def measures(self) -> dict[str, float]:
        """Numbers to compare policies by; the larger the better, but for gains."""
        found = {"nominal return": self.nominal_return, "CVaR10 over worlds": self.cvar10}
        found["worst world"] = self.worst_world[1]
        found |= {f"mean return over {test}": value for test, value in self.areas().items()}
        if self.pushes is not None:
            found["critical push, worst direction (m/s)"] = self.pushes.critical_worst
            found["critical push, mean (m/s)"] = self.pushes.critical_mean
            found["pushes survived"] = float(self.pushes.survived.mean())
        for adversary in self.adversaries:
            found[against(adversary.max_force)] = float(adversary.returns.mean())
        if self.gain is not None:
            found |= {f"gain at {e:g}": float(g) for e, g in zip(self.gain.energy, self.gain.gain, strict=True)}
            found["felling energy"] = self.gain.felling_energy
        return found

    def summary(self) -> dict[str, Scalar]:
        """All measures, and the worst world."""
        rows: dict[str, Scalar] = {"environment": self.env_id, "battery": self.level}
        rows |= self.measures()
        name, value = self.worst_world
        rows["worst world"] = f"{value:.5g} ({name})"
        if self.pushes is not None and self.pushes.falls_undisturbed > 0.0:
            rows["falls with nobody pushing"] = f"{self.pushes.falls_undisturbed:.0%} of episodes"
        return rows

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the mean return of each world."""
        from rlstab.analysis.robustness import plots

        return plots.worlds({self.policy: [self.cells]}, ax)
