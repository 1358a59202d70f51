"""What the study of the hopper keeps of each controller, of levels, and of the monitor."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rlstab.controllers.roa.monitor import MonitorReport

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Flown:
    """One controller of one training on every corridor; arrays ``(corridors,)``."""

    seed: int | None
    minutes: float
    """Of training, by the clock."""
    build_s: float
    """Seconds of building the optimisation problem, once."""
    success: NDArray[np.bool_]
    valid: FloatArray
    speed_error: FloatArray = field(metadata={"unit": "m/s"})
    rmse: FloatArray = field(metadata={"unit": "m/s"})
    travel_s: FloatArray = field(metadata={"unit": "s"})
    ms_per_m: FloatArray = field(metadata={"unit": "ms/m"})
    p50_ms: float
    p99_ms: float
    """Of deciding, by the clock."""
    cpu50_ms: float
    cpu99_ms: float
    """Of deciding, what the processor worked."""
    path: FloatArray
    """``(k, 2)`` m: the body's path through the corridor that is drawn."""


@dataclass(frozen=True)
class Contender:
    """One controller, with each of its trainings."""

    name: str
    flown: list[Flown]

    def mean(self, quantity: str) -> FloatArray:
        """Mean over trainings of each corridor, ``(corridors,)``."""
        return np.mean([np.asarray(getattr(part, quantity), np.float64) for part in self.flown], 0)

    @property
    def passed(self) -> NDArray[np.bool_]:
        """Corridors that every training passes, ``(corridors,)``."""
        return np.all([part.success for part in self.flown], 0)


@dataclass(frozen=True)
class LevelCheck:
    """Calibrated levels of one training against measured ones, on new references."""

    seed: int
    margin: float
    claimed: FloatArray
    measured: FloatArray
    found: NDArray[np.bool_]
    """Where at least 50 starts were unstable; elsewhere the level is limited by the domain."""


@dataclass(frozen=True)
class Watched:
    """What the stability monitor saw of one training in all corridors."""

    seed: int | None
    modes: int
    inside: int
    """Modes that were entered inside their level sets (A3)."""
    fell: int
    """Modes in which ``V`` always fell as asked (A2)."""
    held: int
    """Corridors in which every assumption held."""
    corridors: int
    shortest_dwell: int
    largest_jump: float
    first_failures: dict[str, int]

    @classmethod
    def of(cls, seed: int | None, reports: Sequence[MonitorReport]) -> Self:
        """Count over corridors."""
        modes = [mode for report in reports for mode in report.modes]
        failures = [report.first_failure for report in reports if report.first_failure is not None]
        return cls(
            seed,
            len(modes),
            sum(mode.inside for mode in modes),
            sum(mode.first_rise is None for mode in modes),
            sum(report.first_failure is None for report in reports),
            len(reports),
            min((mode.dwell for mode in modes), default=0),
            max((report.jump for report in reports if not math.isnan(report.jump)), default=math.nan),
            dict(Counter(failure.split(" ")[0] for failure in failures)),
        )
