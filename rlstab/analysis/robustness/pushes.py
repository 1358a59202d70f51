"""Pushes of known impulse, at many moments and from all sides: which a policy survives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis.result import Result, Scalar
from rlstab.analysis.robustness.forced import Plant, Responses, play_forces
from rlstab.envs.physics.interface import FloatArray
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlstab.policies.base import Policy

IMPULSES = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Impulse over the robot's mass, m/s: the change of its speed if it were one rigid body."""
DURATIONS = (0.0, 0.1, 0.5)
"""Seconds; at least one control step."""
ONSETS = 8
_FIRST_ONSET = 1.0  # s: gaits have begun.
_GAIT = 0.8  # s: onsets lie over this, longer than a step of the robots here.
_AFTER = 3.0  # s a robot must stand after the push has begun.
_RECOVERY = (1.5, 2.0)  # s after the push has ended: when its cost must be back.
_BACK = 1.5  # times the undisturbed cost
_SURVIVAL = 0.9


@dataclass(frozen=True, eq=False, repr=False)
class PushReport(Result):
    """Survival of pushes: constant forces of a given impulse, one an episode."""

    kind: ClassVar[str] = "pushes"

    env_id: str
    policy: str
    body: str
    mass_kg: float
    seed: int
    direction: tuple[str, ...]
    falls_undisturbed: float
    """Share of the same episodes in which it falls with nobody pushing."""
    impulse: FloatArray = field(metadata={"unit": "m/s"})
    """``(I,)``: over the robot's mass."""
    duration: FloatArray = field(metadata={"unit": "s"})
    """``(D,)``."""
    onset: FloatArray = field(metadata={"unit": "s"})
    """``(O,)``."""
    survived: NDArray[np.bool_] = field(metadata={"unit": "bool"})
    """``(I, D, directions, O)``: no fall for three seconds after the push began."""
    recovered: NDArray[np.bool_] = field(metadata={"unit": "bool"})
    """``(I, D, directions, O)``: also, its cost is back below one and a half times the undisturbed one two seconds
    after the push ended."""

    def survival(self) -> FloatArray:
        """Share of the onsets that are survived, ``(I, D, directions)``."""
        return self.survived.mean(axis=3)

    def critical(self) -> FloatArray:
        """Largest impulse, m/s, up to which nine of ten onsets are survived, ``(D, directions)``.

        Interpolated between the impulses tried; 0 where it falls undisturbed; the largest tried where it survives all.
        """
        survival = self.survival()
        if self.falls_undisturbed > 1.0 - _SURVIVAL:
            return np.zeros(survival.shape[1:])
        impulses = np.concatenate([[0.0], self.impulse])
        shares = np.concatenate([np.ones((1, *survival.shape[1:])), survival])
        found = np.full(survival.shape[1:], impulses[-1])
        for place in np.ndindex(*found.shape):
            series = shares[(slice(None), *place)]
            below = np.flatnonzero(series < _SURVIVAL)
            if len(below):
                first = int(below[0])
                part = (series[first - 1] - _SURVIVAL) / (series[first - 1] - series[first])
                found[place] = impulses[first - 1] + part * (impulses[first] - impulses[first - 1])
        return found

    @property
    def critical_worst(self) -> float:
        """Critical push, m/s, in the worst direction and duration."""
        return float(self.critical().min())

    @property
    def critical_mean(self) -> float:
        """Critical push, m/s, in the mean over directions and durations."""
        return float(self.critical().mean())

    def summary(self) -> dict[str, Scalar]:
        """Critical pushes."""
        critical = self.critical()
        worst = np.unravel_index(int(critical.argmin()), critical.shape)
        rows: dict[str, Scalar] = {"environment": self.env_id, "pushed": f"{self.body}, {self.mass_kg:.3g} kg in all"}
        if self.falls_undisturbed > 0.0:
            rows["falls with nobody pushing"] = f"{self.falls_undisturbed:.0%} of episodes"
        if self.survived.all():
            rows["critical push, m/s"] = f"none up to {self.impulse.max():g}"
        else:
            where = f"{self.direction[worst[1]]}, {self.duration[worst[0]]:.3g} s"
            rows["critical push in the worst direction, m/s"] = f"{critical.min():.3g} ({where})"
            rows["critical push in the mean, m/s"] = float(critical.mean())
        return {**rows, "pushes": int(self.survived.size), "survived": f"{self.survived.mean():.0%}"}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw survival against the impulse."""
        from rlstab.analysis.robustness import plots

        return plots.survival({self.policy: [self]}, ax)


def push_test(
    policy: Policy,
    plant: Plant,
    *,
    impulses: Sequence[float] = IMPULSES,
    durations: Sequence[float] = DURATIONS,
    onsets: int = ONSETS,
) -> PushReport:
    """Push a robot once an episode, with every impulse, duration, direction and onset.

    Parameters
    ----------
    policy
        What acts, by the mode of its actions.
    plant
        What is pushed.
    impulses
        Over the robot's mass, m/s, positive and growing.
    durations
        Seconds; at least one control step each.
    onsets
        How many, evenly over 0.8 seconds after the first second; each in an episode of its own start.

    Raises
    ------
    UserError
        A number is out of range, or the policy does not fit.
    """
    grid = np.asarray(impulses, np.float64)
    if not len(grid) or not (grid > 0.0).all() or (np.diff(grid) <= 0.0).any() or not durations or onsets < 1:
        raise UserError("pushes need impulses above zero that grow, a duration and an onset")
    dt = plant.dt
    names, vectors = _directions(plant.point.directions)
    lengths = [max(1, round(duration / dt)) for duration in durations]
    firsts = [round((_FIRST_ONSET + _GAIT * number / onsets) / dt) for number in range(onsets)]
    steps = max(firsts) + max(lengths) + round(_AFTER / dt) + 1
    shape = (len(grid), len(lengths), len(names), onsets)
    forces = np.zeros((*shape, steps, plant.point.channels))
    for i, d, a, o in np.ndindex(*shape):
        newtons = grid[i] * plant.point.mass / (lengths[d] * dt)
        forces[i, d, a, o, firsts[o] : firsts[o] + lengths[d]] = newtons * vectors[a]
    starts = list(range(onsets))
    calm = play_forces(policy, plant, np.zeros((onsets, steps, plant.point.channels)), starts)
    rows = forces.reshape(-1, steps, plant.point.channels)
    pushed = play_forces(policy, plant, rows, starts * (len(rows) // onsets))
    ends = np.broadcast_to(np.array(firsts) + round(_AFTER / dt), shape).reshape(-1)
    stood = pushed.fell > ends
    recovered = stood & _back(pushed, calm, np.array(firsts), np.array(lengths), shape, dt)
    return PushReport(
        env_id=plant.env_id,
        policy=type(policy).__name__,
        body=plant.point.body,
        mass_kg=plant.point.mass,
        seed=plant.seed,
        direction=tuple(names),
        falls_undisturbed=float(1.0 - calm.stood.mean()),
        impulse=grid,
        duration=np.array(lengths) * dt,
        onset=np.array(firsts) * dt,
        survived=stood.reshape(shape),
        recovered=recovered.reshape(shape),
    )


def _back(
    pushed: Responses, calm: Responses, firsts: np.ndarray, lengths: np.ndarray, shape: tuple[int, ...], dt: float
) -> NDArray[np.bool_]:
    """Whether the mean cost some time after the push is near that of the same episode without, ``(N,)``."""
    start, end = (round(seconds / dt) for seconds in _RECOVERY)
    back = np.zeros(shape, bool)
    costs = pushed.costs.reshape(*shape, pushed.steps)
    for place in np.ndindex(*shape):
        since = firsts[place[3]] + lengths[place[1]]
        window = slice(since + start, max(since + end, since + start + 1))
        usual = calm.costs[place[3], window].mean()
        back[place] = costs[place][window].mean() <= _BACK * usual + 1e-9
    return back.reshape(-1)


def _directions(kind: Literal["line", "sagittal", "horizontal", "space"]) -> tuple[list[str], FloatArray]:
    """Names and unit vectors ``(directions, channels)`` from which one is pushed."""
    if kind == "line":
        return ["+x", "-x"], np.array([[1.0], [-1.0]])
    if kind == "sagittal":
        return ["+x", "-x", "+z", "-z"], np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    angles = np.arange(8) * np.pi / 4.0
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    names = [f"{angle:g} degrees" for angle in np.degrees(angles)]
    if kind == "horizontal":
        return names, around
    flat = np.concatenate([around, np.zeros((8, 1))], axis=1)
    return [*names, "up"], np.concatenate([flat, [[0.0, 0.0, 1.0]]])
