"""Search a linear regulator and a quadratic form whose level set, as far as samples see, is large.

The first candidates are LQR solutions over a range of weights, with the Lyapunov forms the literature takes; later ones
change regulator and form at random, more where that helped before (a (1+1) evolution strategy).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_lyapunov

from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.verifier import Claim, violations
from rlstab.controllers.lyapunov.config import LyapunovConfig
from rlstab.envs.plants import Plant
from rlstab.errors import UserError
from rlstab.policies.lyapunov import LinearFeedback, QuadraticLyapunov, linearise, lqr
from rlstab.policies.lyapunov_policy import CertifiableLoop

FloatArray = NDArray[np.float64]

PROVED_KAPPA = 1e-3
_WEIGHTS = np.geomspace(0.1, 1000.0, 13)
_INNER = 1e-3
_RADII = 40


class Candidate(NamedTuple):
    """A regulator ``K (m, n)`` and a root ``L (n, n)`` of the form ``P = L L'``, by numbers without units."""

    gain: FloatArray
    root: FloatArray


class QuadraticSearch:
    """State of a search.

    Parameters
    ----------
    plant
        Of any number of states.
    config
        Its seed, and ``sweep_samples`` by which candidates are judged.
    initial
        Not used: the first candidates are LQR solutions.
    """

    def __init__(self, plant: Plant, config: LyapunovConfig, initial: CertifiableLoop) -> None:
        del initial
        self.plant, self.config, self.steps = plant, config, 0
        self.size = 0.2
        self.best: Candidate | None = None
        self.best_score, self.level = -1.0, 0.0
        self.first = _first_candidates(plant)
        rng = np.random.default_rng(config.seed)
        directions = rng.standard_normal((max(1, config.sweep_samples // _RADII), plant.state_size))
        self.directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)

    def advance(self, count: int) -> dict[str, float]:
        """Judge ``count`` candidates."""
        for _ in range(count):
            candidate = self._candidate()
            score, level = self._score(candidate)
            better = score > self.best_score
            if better:
                self.best, self.best_score, self.level = candidate, score, level
            if self.steps >= len(self.first):
                # Rechenberg's rule: larger changes after a success, smaller ones after four failures.
                self.size = float(np.clip(self.size * (1.5 if better else 1.5**-0.25), 1e-4, 1.0))
            self.steps += 1
        return {"train/volume": self.best_score, "train/level": self.level, "train/step_size": self.size}

    def publish(self, target: CertifiableLoop) -> None:
        """Put the best candidate into a policy's module."""
        if self.best is None:
            return
        feedback, form = _modules(self.plant, self.best)
        target.controller.load_state_dict(feedback.state_dict())
        target.lyapunov.load_state_dict(form.state_dict())
        target.level.fill_(self.level)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next candidates depend on."""
        best = None if self.best is None else {"gain": self.best.gain.copy(), "root": self.best.root.copy()}
        return {"steps": self.steps, "size": self.size, "best": best, "score": self.best_score, "level": self.level}

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.steps, self.size = int(tree["steps"]), float(tree["size"])
        self.best = None if tree["best"] is None else Candidate(tree["best"]["gain"], tree["best"]["root"])
        self.best_score, self.level = float(tree["score"]), float(tree["level"])

    def _candidate(self) -> Candidate:
        if self.steps < len(self.first):
            return self.first[self.steps]
        assert self.best is not None
        # Each candidate has numbers of its own, so that none depend on how many were judged in one go.
        rng = np.random.default_rng((self.config.seed, self.steps))
        gain = self.best.gain * np.exp(self.size * rng.standard_normal(self.best.gain.shape))
        gain = gain + 0.1 * self.size * np.abs(self.best.gain).max() * rng.standard_normal(gain.shape)
        change = np.eye(len(self.best.root)) + self.size * rng.standard_normal(self.best.root.shape)
        return Candidate(gain, self.best.root @ change)

    def _score(self, candidate: Candidate) -> tuple[float, float]:
        """Volume of the level set that no sample speaks against, and the level; nothing where there is none."""
        try:
            loop = ClosedLoop(self.plant, *_modules(self.plant, candidate), single_precision=True)
        except UserError:
            return 0.0, 0.0
        half, inverse = loop.half_widths.numpy(), np.linalg.inv(candidate.root.T)
        # Up to the smallest level whose set, cut off by the box or not, holds all of the box.
        corner = float(np.square(np.abs(candidate.root.T) @ half).sum())
        size = len(half)
        radii = math.sqrt(corner) * np.linspace(0.0, 1.0, _RADII + 1)[1:]
        reach = 1.0 / (np.abs(self.directions @ inverse.T) / half).max(1)
        # Rays end where they leave the box.
        states = (np.minimum(reach, radii[-1])[:, None, None] * (radii / radii[-1])[:, None]) * (
            self.directions @ inverse.T
        )[:, None, :]
        states = torch.as_tensor(states.reshape(-1, size))
        claim = Claim(rho=corner, kappa=PROVED_KAPPA, c1=_INNER * 1e-3 * corner)
        excess, value, _, _ = violations(loop, claim, states)
        broken = excess > -torch.inf
        level = float(value[broken].min()) if bool(broken.any()) else corner
        if level <= 10.0 * claim.c1:
            return 0.0, 0.0
        # Volume in polar coordinates: each direction reaches to the level or to the box.
        lengths = np.minimum(reach, math.sqrt(level))
        ball = math.pi ** (size / 2) / math.gamma(size / 2 + 1)
        return float(ball * (lengths**size).mean() * abs(np.linalg.det(inverse))), level


def _modules(plant: Plant, candidate: Candidate) -> tuple[LinearFeedback, QuadraticLyapunov]:
    matrix = candidate.root @ candidate.root.T
    return LinearFeedback(candidate.gain, plant.equilibrium_control), QuadraticLyapunov(0.5 * (matrix + matrix.T))


def _first_candidates(plant: Plant) -> list[Candidate]:
    a, b = linearise(plant)
    found = []
    for weight in _WEIGHTS:
        feedback, cost = lqr(plant, control_weight=float(weight))
        gain = feedback.gain.numpy()
        closed = a - b @ gain
        forms = [cost.matrix, np.asarray(solve_discrete_lyapunov(closed.T, np.eye(len(a))), np.float64)]
        roots = [np.asarray(np.linalg.cholesky(0.5 * (form + form.T)), np.float64) for form in forms]
        found += [Candidate(gain, root) for root in roots]
    return found
