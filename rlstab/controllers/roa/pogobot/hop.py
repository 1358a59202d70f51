"""Hop through corridors in the exact environment, and measure how it went."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlstab.envs.hybrid.corridor import MOST_SEGMENTS, PARTS, Corridor, borders, target_height
from rlstab.envs.hybrid.pogobot import GRAVITY, Hop, hop
from rlstab.envs.hybrid.pogobot_drawing import hop_path
from rlstab.errors import UserError

FloatArray = NDArray[np.float64]
MOST_HOPS = 100
START_FASTER = 0.5
"""m/s above the first segment's speed at the start."""

Pilot = Callable[[FloatArray, FloatArray], FloatArray]
"""From apices ``(n, 3)`` (x, xdot, y) and corridors ``(n, 20)`` to controls ``(n, 2)`` (rad, N)."""


@dataclass(frozen=True)
class HopRun:
    """One corridor, hopped through or not."""

    success: bool
    """The last segment was reached before anything was hit."""
    valid: float
    """Way before the first hit, as a share of the corridor's length; 1 where the end was reached."""
    speed_error: float
    """Mean ``|xdot - v_ref|`` over the time in flight before the first hit, m/s."""
    rmse: float
    """Root of the mean square of the same, m/s."""
    travel_s: float
    """Seconds of flight and stance until the end, or until the last apex before the hit."""
    distance: float
    """m gone by then."""
    hops: int
    decision_s: tuple[float, ...]
    """Seconds that each decision took, by the clock."""
    cpu_s: tuple[float, ...]
    """Seconds that the processor worked for it: what others do on the machine does not count."""
    apices: FloatArray
    """``(hops + 1, 3)``."""
    controls: FloatArray
    """``(hops, 2)``."""
    ending: str
    """``"end"``, ``"hit"`` or ``"hops"``: the limit of hops."""

    @property
    def seconds_per_metre(self) -> float:
        """Seconds of deciding for each metre of the way."""
        return sum(self.decision_s) / max(self.distance, 1e-9)


def start(corridor: Corridor) -> FloatArray:
    """First apex ``(3,)`` of the benchmark: at the height to aim at, half a metre a second too fast."""
    _, floor, ceiling, speed = corridor.segments[0]
    return np.array([0.0, speed + START_FASTER, float(target_height(floor, ceiling))])


def hop_through(
    corridor: Corridor, pilot: Pilot, begin: FloatArray | None = None, most_hops: int = MOST_HOPS
) -> HopRun:
    """Hop until the end of the corridor, a hit, or the limit of hops.

    Parameters
    ----------
    pilot
        What decides; it is timed.
    begin
        First apex, ``(3,)``; default: `start`.

    Raises
    ------
    UserError
        The first apex is not three finite numbers.
    """
    apex = start(corridor) if begin is None else np.asarray(begin, np.float64)
    if apex.shape != (3,) or not np.isfinite(apex).all():
        raise UserError(f"a hopper begins at an apex of three finite numbers (x, xdot, y), got {apex}")
    configuration = corridor.configuration()[None]
    apices, controls, seconds, worked = [apex], [], [], []
    travelled, errors, ending = 0.0, [], "hops"
    reached = apex[0]
    for _ in range(most_hops):
        before, work = time.perf_counter(), time.process_time()
        control = np.asarray(pilot(apex[None], configuration), np.float64)
        seconds.append(time.perf_counter() - before)
        worked.append(time.process_time() - work)
        (x, xdot, y), (angle, force) = apex[:, None], control.T
        taken = hop(x, xdot, y, angle, force, configuration)
        controls.append(control[0])
        if taken.failed[0]:
            reached, ending = max(reached, float(taken.x[0])), "hit"
            break
        errors.append(_flight_errors(apex, taken, configuration))
        travelled += float(taken.time[0])
        apex = np.array([taken.x[0], taken.xdot[0], taken.y[0]])
        apices.append(apex)
        reached = max(reached, apex[0])
        if apex[0] >= corridor.length:
            ending = "end"
            break
    spans, differences = np.concatenate(errors, 1) if errors else np.zeros((2, 0))
    total = max(spans.sum(), 1e-12)
    last_border = corridor.length - corridor.segments[-1, 0]
    return HopRun(
        success=ending != "hit" and bool(reached > last_border),
        valid=min(max(reached, 0.0) / corridor.length, 1.0),
        speed_error=float((spans * np.abs(differences)).sum() / total) if len(spans) else float("nan"),
        rmse=float(np.sqrt((spans * differences**2).sum() / total)) if len(spans) else float("nan"),
        travel_s=travelled,
        distance=float(apex[0] - apices[0][0]),
        hops=len(controls),
        decision_s=tuple(seconds),
        cpu_s=tuple(worked),
        apices=np.array(apices),
        controls=np.array(controls).reshape(-1, 2),
        ending=ending,
    )


def body_path(corridor: Corridor, run: HopRun) -> FloatArray:
    """Where the body was, ``(k, 2)`` m, for pictures; of a hop that failed, as far as is known."""
    configuration = corridor.configuration()[None]
    parts = [run.apices[:1, [0, 2]]]
    for apex, control in zip(run.apices, run.controls, strict=False):
        (x, xdot, y), (angle, force) = apex[:, None], control[:, None]
        taken = hop(x, xdot, y, angle, force, configuration)
        parts.append(hop_path(apex, taken))
    return np.concatenate(parts)


def _flight_errors(apex: FloatArray, taken: Hop, configuration: FloatArray) -> FloatArray:
    """Seconds in flight over each segment and error of speed there, of one hop: ``(2, k)``."""
    table = configuration.reshape(MOST_SEGMENTS, PARTS)
    ends = np.concatenate([[-np.inf], borders(configuration)[0], [np.inf]])
    flights = (
        (apex[0], float(taken.touchdown[0, 0]), apex[1], float(-taken.touchdown[0, 3] / GRAVITY)),
        (float(taken.liftoff[0, 0]), float(taken.x[0]), float(taken.xdot[0]), float(taken.liftoff[0, 3] / GRAVITY)),
    )
    spans, errors = [], []
    for begin, end, speed, duration in flights:
        low, high = min(begin, end), max(begin, end)
        over = np.clip(np.minimum(ends[1:], high) - np.maximum(ends[:-1], low), 0.0, None)
        # Standing on the spot, all of the time is over one segment.
        share = over / over.sum() if over.sum() > 1e-12 else ((ends[:-1] <= low) & (low < ends[1:])).astype(float)
        spans.append(duration * share)
        errors.append(speed - table[:, 3])
    return np.stack([np.concatenate(spans), np.concatenate(errors)])
