"""How strongly a closed loop answers to forces: the worst gain found at each energy, and what fells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis.result import Result, Scalar
from rlstab.analysis.robustness.attacks import (
    Attack,
    CrossEntropy,
    Impulse,
    Rectangle,
    SineSweep,
    WhiteNoise,
)
from rlstab.analysis.robustness.forced import Plant, Responses, play_forces
from rlstab.envs.physics.interface import FloatArray
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlstab.policies.base import Policy

Measure = Literal["incremental", "excess"]

QUICK: tuple[Attack, ...] = (
    WhiteNoise(samples=32),
    Rectangle(onsets=6, lengths=5),
    SineSweep(frequencies=13, phases=2),
    CrossEntropy(coefficients=8, population=32, iterations=8),
)
"""Attacks of minutes."""
FULL: tuple[Attack, ...] = (
    WhiteNoise(samples=128),
    Impulse(onsets=50),
    Rectangle(onsets=16, lengths=10),
    SineSweep(frequencies=41, phases=4),
    CrossEntropy(coefficients=16, population=64, iterations=50),
)
"""Attacks of an hour."""


@dataclass(frozen=True, eq=False, repr=False)
class GainCurve(Result):
    """Largest gain found at each energy of the force: a lower bound of the true one, from the attacks named.

    The force ``w`` is in weights of the robot (newtons for linear systems); its energy is ``e^2 = sum |w|^2 dt``. With
    ``z_0, C_0`` the output and cost of the same start without a force, the gain is ``sqrt(sum |z - z_0|^2 / sum
    |w|^2)`` (incremental) or ``sqrt(max(0, sum C - sum C_0) / sum |w|^2)`` (excess). A robot that falls keeps its last
    output and cost until the end, so that falling is never cheap.
    """

    kind: ClassVar[str] = "gain_curve"

    env_id: str
    policy: str
    measure: str
    """``"incremental"`` or ``"excess"``: what ``gain`` is."""
    output_unit: str
    body: str
    weight_n: float
    """Newtons of one unit of force."""
    seconds: float
    """Length of an episode."""
    steps: int
    """The same in control steps."""
    starts: int
    """Starts that each attack's finding was played from; the worst counts."""
    seed: int
    attacks: tuple[str, ...]
    played: int
    """Control steps that all of it took."""
    falls_undisturbed: float
    """Share of the starts from which it falls without any force; there every gain is infinite."""
    energy: FloatArray = field(metadata={"unit": "weights sqrt(s)"})
    """``(E,)``: ``e``."""
    gain: FloatArray = field(metadata={"unit": "output per weight"})
    """``(E,)``: the largest; infinite where it falls undisturbed."""
    by_attack: FloatArray = field(metadata={"unit": "output per weight"})
    """``(E, attacks)``: the same for each attack."""
    fell: NDArray[np.float64] = field(metadata={"unit": "fraction of starts"})
    """``(E, attacks)``: starts from which the attack's finding fells it."""
    impulse: FloatArray = field(metadata={"unit": "weights s"})
    """``(E, attacks)``: ``|sum w dt|`` of the finding."""
    peak: FloatArray = field(metadata={"unit": "weights"})
    """``(E, attacks)``: largest ``|w|`` of the finding."""

    @property
    def felling_energy(self) -> float:
        """Smallest energy ``e`` tried at which a fall was found; zero if it falls by itself, infinite if never."""
        if self.falls_undisturbed > 0.0:
            return 0.0
        felled = self.fell.max(axis=1) > 0.0
        return float(self.energy[felled].min()) if felled.any() else float("inf")

    @property
    def worst_attack(self) -> tuple[str, ...]:
        """The attack that found each gain."""
        return tuple(self.attacks[int(row.argmax())] for row in self.by_attack)

    def summary(self) -> dict[str, Scalar]:
        """Gains at each energy, and the smallest that fells."""
        rows: dict[str, Scalar] = {"environment": self.env_id, "force on": self.body, "starts": self.starts}
        if self.falls_undisturbed > 0.0:
            rows["falls without any force"] = f"{self.falls_undisturbed:.0%} of starts: no gain is finite"
        else:
            for energy, gain, attack in zip(self.energy, self.gain, self.worst_attack, strict=True):
                rows[f"{self.measure} gain found at {energy:.3g}"] = f"{gain:.4g} ({attack})"
        least = self.felling_energy
        rows["smallest energy that fells it"] = least if np.isfinite(least) else f"none up to {self.energy.max():.3g}"
        rows["budget"] = f"{self.played:,} control steps"
        return rows

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the gain against the energy."""
        from rlstab.analysis.robustness import plots

        return plots.gain_curves({self.policy: [self]}, ax)


def estimate_gain(
    policy: Policy,
    plant: Plant,
    *,
    energies: Sequence[float],
    seconds: float,
    attacks: Sequence[Attack] = QUICK,
    starts: int = 16,
    searched: int = 2,
    measure: Measure | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> GainCurve:
    """Search, at each energy, for the force that a policy answers most strongly to.

    Parameters
    ----------
    policy
        What acts, by the mode of its actions.
    plant
        What is pushed.
    energies
        ``e = sqrt(sum |w|^2 dt)``, positive, with ``w`` in weights of the robot.
    seconds
        Length of an episode.
    attacks
        Searches. Their budgets are part of the result: two policies compare under equal ones only.
    starts
        Starts that each finding is played from.
    searched
        Starts that a search looks at; the largest gain over them counts.
    measure
        See `GainCurve`. Default: incremental for regulators; excess for runners, whose gait a push shifts in time for
        good, so that the incremental gain grows with the length of the episode.
    seed
        Of the searches.
    on_progress
        Called with energies done and in all.

    Raises
    ------
    UserError
        A number is out of range, or the policy does not fit.
    """
    grid = np.asarray(energies, np.float64)
    if grid.ndim != 1 or not len(grid) or not (np.isfinite(grid) & (grid > 0.0)).all():
        raise UserError(f"energies must be positive numbers, got {list(energies)}: a force of none has no gain")
    if not attacks or starts < 1 or not 1 <= searched <= starts or not seconds > 0.0:
        raise UserError("a gain needs an attack, a start, at most that many searched ones, and a positive length")
    dt = plant.dt
    steps = max(1, round(seconds / dt))
    game = _Game(policy, plant, steps, starts, searched, measure)
    shape = (len(grid), len(attacks))
    gains, fell, impulses, peaks = (np.zeros(shape) for _ in range(4))
    falls = float(1.0 - game.calm.stood.mean())
    if falls > 0.0:
        # No gain is finite, whatever a search would find.
        gains[...], fell[...] = np.inf, falls
    for row, energy in enumerate(grid):
        for column, attack in enumerate(attacks if falls == 0.0 else ()):
            # The same numbers at each energy and for each policy.
            rng = np.random.default_rng((seed, column))
            found = attack.search(game.searched, steps, plant.point.channels, energy**2 / dt, rng)
            gains[row, column], fell[row, column] = game.judge(found.disturbance)
            impulses[row, column] = np.linalg.norm(found.disturbance.sum(axis=0)) * dt
            peaks[row, column] = np.linalg.norm(found.disturbance, axis=1).max()
        if on_progress:
            on_progress(row + 1, len(grid))
    return GainCurve(
        env_id=plant.env_id,
        policy=type(policy).__name__,
        measure=game.measure,
        output_unit=game.calm.unit,
        body=plant.point.body,
        weight_n=plant.point.weight,
        seconds=steps * dt,
        steps=steps,
        starts=starts,
        seed=seed,
        attacks=tuple(attack.name for attack in attacks),
        played=game.played,
        falls_undisturbed=falls,
        energy=grid,
        gain=gains.max(axis=1),
        by_attack=gains,
        fell=fell,
        impulse=impulses,
        peak=peaks,
    )


class _Game:
    """A policy and its starts, with what it does when nobody pushes."""

    def __init__(
        self, policy: Policy, plant: Plant, steps: int, starts: int, searched: int, measure: Measure | None
    ) -> None:
        self._policy, self._plant, self._searched = policy, plant, searched
        self._starts = list(range(starts))
        self.played = 0
        self.calm = self._play(np.zeros((1, steps, plant.point.channels)), starts)
        regulates = self.calm.outputs.shape[2] > 1
        self.measure: Measure = measure or ("incremental" if regulates else "excess")

    def searched(self, disturbances: FloatArray) -> FloatArray:
        """Largest gain ``(N,)`` over the starts that a search looks at."""
        return self._gains(self._play(disturbances, self._searched), disturbances, self._searched).max(axis=1)

    def judge(self, disturbance: FloatArray) -> tuple[float, float]:
        """Largest gain over all starts, and the share of them from which it falls."""
        starts = len(self._starts)
        response = self._play(disturbance[None], starts)
        gains = self._gains(response, disturbance[None], starts)
        return float(gains.max()), float(1.0 - response.stood.mean())

    def _play(self, disturbances: FloatArray, starts: int) -> Responses:
        count, steps, _ = disturbances.shape
        forces = np.repeat(disturbances, starts, axis=0) * self._plant.point.weight
        self.played += count * starts * steps
        return play_forces(self._policy, self._plant, forces, self._starts[:starts] * count)

    def _gains(self, response: Responses, disturbances: FloatArray, starts: int) -> FloatArray:
        """Gains ``(N, starts)``."""
        count = len(disturbances)
        if self.measure == "incremental":
            calm = np.tile(self.calm.outputs[:starts], (count, 1, 1))
            answer = np.square(response.outputs - calm).sum(axis=(1, 2))
        else:
            answer = response.costs.sum(axis=1) - np.tile(self.calm.costs[:starts].sum(axis=1), count)
        energy = np.square(disturbances).sum(axis=(1, 2))
        return np.sqrt(np.maximum(answer.reshape(count, starts), 0.0) / energy[:, None])
