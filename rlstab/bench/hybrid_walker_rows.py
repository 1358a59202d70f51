"""What is kept of one controller of the compass walker, of one training, and the intervals of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlstab.controllers.roa.walker.certificate import RegionStatement

_RESAMPLES = 2000


@dataclass(frozen=True)
class Walks:
    """One controller on one set of starts."""

    controller: str
    experiment: str
    reached: NDArray[np.bool_]
    """``(trainings, starts)``; one row for what is not trained."""
    first_step: NDArray[np.bool_]
    lasting: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    """Until it was reached; NaN where it was not."""
    error: NDArray[np.float64]
    """rad and rad/s."""


@dataclass(frozen=True)
class Decisions:
    """What decisions of one controller cost for one walker, the first call excluded.

    In time of the thread on the processor: by the clock, what else runs on the machine would count, too.
    """

    controller: str
    seconds: NDArray[np.float64]
    """Of each decision."""
    control_seconds: NDArray[np.float64]
    """Of each torque, for those that decide on gaits; empty where the decision is the torque."""
    periods: float
    """Control periods from one decision to the next, in the mean."""

    def per_period(self) -> float:
        """Seconds for each control period of 10 ms, in the mean."""
        control = float(np.mean(self.control_seconds)) if len(self.control_seconds) else 0.0
        return float(np.mean(self.seconds)) / self.periods + control


@dataclass(frozen=True)
class Monitored:
    """What the monitor saw along walks of one training's planner. Grade: empirical."""

    walks: int
    modes: int
    inside: int
    """Modes that were begun inside their region."""
    falling: int
    """Modes in which V fell as asked at every step."""
    bridges: int
    clean: int
    """Walks in which no assumption of the theorem failed."""
    longest_needed_dwell: float
    """Steps that a mode would have to last for T3, at the largest jump seen; NaN without a switch."""


@dataclass(frozen=True)
class Slice:
    """A plane through states in which a step of one gait begins."""

    gait: float
    """rad."""
    first: NDArray[np.float64]
    """``(m,)``: q1d, rad/s."""
    second: NDArray[np.float64]
    """``(k,)``: q2d, rad/s."""
    values: NDArray[np.float64]
    """``V``, ``(k, m)``."""
    stable: NDArray[np.bool_]
    """What simulation says, ``(k, m)``."""
    level: float


@dataclass(frozen=True)
class Trained:
    """One training of the networks."""

    seed: int
    seconds: float
    """By the clock."""
    regions: RegionStatement
    monitored: Monitored


def interval(outcomes: NDArray[np.bool_], seed: int = 0) -> tuple[float, float, float]:
    """Mean of ``(trainings, starts)`` with its 95 % bootstrap interval over both; NaN for a single start."""
    return _bootstrap(np.asarray(outcomes, np.float64), seed)


def difference(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], seed: int = 0) -> tuple[float, float, float]:
    """Mean difference on the same starts, with its 95 % interval; what is not trained has a single row."""
    return _bootstrap(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64).mean(0), seed)


def _bootstrap(outcomes: NDArray[np.float64], seed: int) -> tuple[float, float, float]:
    rng, (trainings, starts) = np.random.default_rng(seed), outcomes.shape
    mean = float(outcomes.mean())
    if starts < 2:
        return mean, float("nan"), float("nan")
    rows = rng.integers(trainings, size=(_RESAMPLES, trainings))
    columns = rng.integers(starts, size=(_RESAMPLES, starts))
    means = np.take_along_axis(outcomes[rows].mean(1), columns, 1).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return mean, float(low), float(high)
