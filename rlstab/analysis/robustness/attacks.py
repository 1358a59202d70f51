"""Searches for the disturbance that a system answers most strongly to, by playing disturbances and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from rlstab.errors import UserError

FloatArray = NDArray[np.float64]

Response: TypeAlias = Callable[[FloatArray], FloatArray]
"""Gains ``(N,)`` of disturbances ``(N, T, k)``: how large the answer is against each. The same each time."""


@dataclass(frozen=True, eq=False)
class Finding:
    """The worst disturbance that an attack found.

    Parameters
    ----------
    attack
        Which.
    gain
        Of the disturbance.
    disturbance
        ``(T, k)``.
    played
        Disturbances that were tried: what the finding cost.
    """

    attack: str
    gain: float
    disturbance: FloatArray
    played: int


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """A search over disturbances of equal energy."""

    name: ClassVar[str]

    @abstractmethod
    def search(self, response: Response, steps: int, channels: int, energy: float, rng: np.random.Generator) -> Finding:
        """Find the worst disturbance with ``sum |w|^2 = energy``.

        Parameters
        ----------
        response
            What is attacked.
        steps, channels
            Shape ``(steps, channels)`` of a disturbance.
        energy
            Of each disturbance played, positive.
        rng
            Whatever is random.
        """


@dataclass(frozen=True, kw_only=True)
class ListedAttack(Attack):
    """Plays every disturbance of a list."""

    batch: int = 512
    """Disturbances played at once."""

    @abstractmethod
    def candidates(self, steps: int, channels: int, rng: np.random.Generator) -> Iterator[FloatArray]:
        """Give shapes ``(steps, channels)``, of any energy."""

    def search(self, response: Response, steps: int, channels: int, energy: float, rng: np.random.Generator) -> Finding:
        """See `Attack.search`."""
        _check(steps, channels, energy)
        best, found, played = -np.inf, np.zeros((steps, channels)), 0
        waiting: list[FloatArray] = []

        def play() -> None:
            nonlocal best, found, played
            if not waiting:
                return
            disturbances = scaled(np.stack(waiting), energy)
            waiting.clear()
            gains = response(disturbances)
            played += len(gains)
            if gains.max() > best:
                best, found = float(gains.max()), disturbances[int(gains.argmax())]

        for candidate in self.candidates(steps, channels, rng):
            waiting.append(candidate)
            if len(waiting) == self.batch:
                play()
        play()
        return Finding(self.name, best, found, played)


@dataclass(frozen=True, kw_only=True)
class WhiteNoise(ListedAttack):
    """The best of many sequences of independent Gaussian numbers: what most papers call a robustness test."""

    name: ClassVar[str] = "white noise"
    samples: int = 2000
    """Sequences."""

    def candidates(self, steps: int, channels: int, rng: np.random.Generator) -> Iterator[FloatArray]:
        """See `ListedAttack.candidates`."""
        for _ in range(self.samples):
            yield rng.standard_normal((steps, channels))


@dataclass(frozen=True, kw_only=True)
class Impulse(ListedAttack):
    """One push of one step, at any time, along each axis in both senses."""

    name: ClassVar[str] = "impulse"
    onsets: int = 100
    """Times that are tried, evenly over the episode."""

    def candidates(self, steps: int, channels: int, rng: np.random.Generator) -> Iterator[FloatArray]:
        """See `ListedAttack.candidates`."""
        del rng
        yield from _pushes(_spread(steps, self.onsets), [1], steps, channels)


@dataclass(frozen=True, kw_only=True)
class Rectangle(ListedAttack):
    """A constant push, of any onset and length, along each axis in both senses."""

    name: ClassVar[str] = "rectangular push"
    onsets: int = 20
    """Onsets that are tried, evenly over the episode."""
    lengths: int = 20
    """Lengths that are tried, evenly in their logarithm from one step to the whole episode."""

    def candidates(self, steps: int, channels: int, rng: np.random.Generator) -> Iterator[FloatArray]:
        """See `ListedAttack.candidates`."""
        del rng
        lengths = np.unique(np.geomspace(1, steps, self.lengths).round().astype(int))
        yield from _pushes(_spread(steps, self.onsets), [int(length) for length in lengths], steps, channels)


@dataclass(frozen=True, kw_only=True)
class SineSweep(ListedAttack):
    """A sine over the whole episode, along each axis."""

    name: ClassVar[str] = "sine sweep"
    frequencies: int = 361
    """Frequencies that are tried, from none to that of a change of sign each step: half evenly, half evenly in their
    logarithm."""
    phases: int = 4
    """Phases that are tried of each."""

    def candidates(self, steps: int, channels: int, rng: np.random.Generator) -> Iterator[FloatArray]:
        """See `ListedAttack.candidates`."""
        del rng
        time = np.arange(steps)
        half = self.frequencies // 2
        even = np.linspace(0.0, np.pi, self.frequencies - half)
        for angle in np.concatenate([even, np.geomspace(0.1 / steps, np.pi, half)]):
            for phase in np.pi * np.arange(self.phases) / self.phases:
                wave = np.sin(angle * time + phase)
                if not np.abs(wave).max() > 1e-9:
                    continue
                for channel in range(channels):
                    shape = np.zeros((steps, channels))
                    shape[:, channel] = wave
                    yield shape
                    yield -shape


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Attack):
    """The cross-entropy method on the slowest cosine coefficients of each channel.

    A basis of few slow shapes is worth more than a large budget: on raw sequences the same search finds a fifth less.
    """

    name: ClassVar[str] = "cross-entropy"
    coefficients: int | None = 16
    """Cosines of each channel. None: every step on its own."""
    population: int = 64
    """Disturbances an iteration."""
    iterations: int = 50
    """Iterations."""
    elites: float = 0.125
    """Share of the population that the next is drawn after."""

    def search(self, response: Response, steps: int, channels: int, energy: float, rng: np.random.Generator) -> Finding:
        """See `Attack.search`."""
        _check(steps, channels, energy)
        size = min(self.coefficients or steps, steps)
        units = np.eye(steps)[:size]
        basis = units if self.coefficients is None else np.asarray(fft.idct(units, norm="ortho", axis=1), np.float64)
        count = max(2, round(self.elites * self.population))
        mean, std = np.zeros((size, channels)), np.ones((size, channels))
        best, found = -np.inf, np.zeros((steps, channels))
        for _ in range(self.iterations):
            drawn = mean + std * rng.standard_normal((self.population, size, channels))
            # Only the direction matters: all have the same energy.
            drawn /= np.maximum(np.linalg.norm(drawn, axis=(1, 2), keepdims=True), 1e-12)
            disturbances = scaled(np.einsum("nsc,st->ntc", drawn, basis), energy)
            gains = response(disturbances)
            order = np.argsort(-gains)
            if gains[order[0]] > best:
                best, found = float(gains[order[0]]), disturbances[order[0]]
            chosen = drawn[order[:count]]
            mean = chosen.mean(0)
            std = chosen.std(0) + 1e-3 / np.sqrt(size * channels)
        return Finding(self.name, best, found, self.population * self.iterations)


STANDARD: tuple[Attack, ...] = (WhiteNoise(), Impulse(), Rectangle(), SineSweep(), CrossEntropy())
"""What every estimate of a gain is the maximum of."""


def scaled(disturbances: FloatArray, energy: float) -> FloatArray:
    """Give each of ``(N, T, k)`` the energy ``sum |w|^2``."""
    norms = np.sqrt(np.square(disturbances).sum(axis=(1, 2), keepdims=True))
    return disturbances * (np.sqrt(energy) / norms)


def _pushes(onsets: list[int], lengths: list[int], steps: int, channels: int) -> Iterator[FloatArray]:
    for onset in onsets:
        for length in lengths:
            if onset + length > steps and length > 1:
                continue
            for channel in range(channels):
                shape = np.zeros((steps, channels))
                shape[onset : onset + length, channel] = 1.0
                yield shape
                yield -shape


def _spread(steps: int, count: int) -> list[int]:
    return sorted({int(step) for step in np.linspace(0, steps - 1, min(count, steps))})


def _check(steps: int, channels: int, energy: float) -> None:
    if steps < 1 or channels < 1:
        raise UserError(f"a disturbance needs a step and a channel, got {steps} and {channels}")
    if not (energy > 0.0 and np.isfinite(energy)):
        raise UserError(f"the energy of a disturbance must be positive and finite, got {energy}")
