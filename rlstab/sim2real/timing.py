"""When things happened in a control loop, and the table that says whether it kept its rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Tick(NamedTuple):
    """Moments of one pass through the loop, seconds on the runtime's clock."""

    t_start: float
    """The pass began."""
    t_sensor: float
    """The sensors were read, as the robot states it."""
    t_observed: float
    """The observation was in the runtime's hands; inference began."""
    t_infer: float
    """The action was computed."""
    t_send: float
    """The command had been handed to the robot."""
    overrun: bool
    """The pass began more than a period late; the deadlines in between were dropped."""


@dataclass(frozen=True)
class Spread:
    """Percentiles of a duration, milliseconds."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: NDArray[np.float64]) -> Spread:
        """Summarise durations given in seconds; all NaN if there are none."""
        if seconds.size == 0:
            return cls(0, np.nan, np.nan, np.nan, np.nan)
        p50, p95, p99 = np.percentile(seconds, [50, 95, 99]).tolist()
        return cls(int(seconds.size), 1e3 * p50, 1e3 * p95, 1e3 * p99, 1e3 * float(seconds.max()))


@dataclass(frozen=True)
class LatencyTable:
    """How a control loop kept time, over one or several episodes."""

    inference: Spread
    """Observation in hand to action computed."""
    sensor_to_command: Spread
    """Sensors read to command sent."""
    period_error: Spread | None
    """Distance of each period from the nominal one, overruns included; none if the loop was not paced."""
    overruns: int
    ticks: int

    @classmethod
    def of(cls, episodes: Sequence[Sequence[Tick]], period: float | None) -> LatencyTable:
        """Summarise the ticks of episodes that ran at ``period`` seconds, or unpaced if that is none."""
        arrays = [np.array(ticks, dtype=np.float64).reshape(-1, len(Tick._fields)).T for ticks in episodes]
        start, sensor, observed, infer, send, overrun = np.concatenate(arrays, axis=1) if arrays else np.empty((6, 0))
        # Between episodes the loop rests; only starts within one are a period apart.
        periods = [np.diff(array[0]) for array in arrays]
        error = None if period is None else Spread.of(np.abs(np.concatenate([np.empty(0), *periods]) - period))
        return cls(Spread.of(infer - observed), Spread.of(send - sensor), error, int(overrun.sum()), int(start.size))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; milliseconds."""
        return asdict(self)

    def rows(self) -> list[tuple[str, ...]]:
        """Header and rows of a table, as text."""
        rows: list[tuple[str, ...]] = [("ms", "p50", "p95", "p99", "max")]
        spreads = {
            "inference": self.inference,
            "sensor to command": self.sensor_to_command,
            "period error": self.period_error,
        }
        for name, spread in spreads.items():
            if spread is not None:
                rows.append((name, *(f"{value:.3f}" for value in (spread.p50, spread.p95, spread.p99, spread.max))))
        return rows
