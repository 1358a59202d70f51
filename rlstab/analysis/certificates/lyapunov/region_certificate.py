"""Certificates of regions of attraction: what is proved or measured, for exactly which loop and set."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlstab.analysis.certificates.certificate import Certificate
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.origin import OriginProof, prove_convergence
from rlstab.analysis.certificates.lyapunov.regions import monte_carlo_volume, sublevel_volume
from rlstab.analysis.certificates.lyapunov.statistical import clopper_pearson
from rlstab.analysis.certificates.lyapunov.verifier import (
    Budget,
    Claim,
    Counterexample,
    Verification,
    find_counterexample,
    verify,
)
from rlstab.analysis.result import Result, Scalar
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class RegionCertificate(Certificate):
    """That a level set of a Lyapunov function is never left, and that trajectories in it come near 0 or converge."""

    kind: ClassVar[str] = "region_certificate"

    plant: str
    constant_names: tuple[str, ...]
    constants: FloatArray = field(metadata={"unit": "SI"})
    """Of the plant, ``(k,)``."""
    box: FloatArray = field(metadata={"unit": "of the state"})
    """Half-widths of the box within which the set is taken, ``(n,)``."""
    rho: float
    c1: float
    """Inner level; 0 for none."""
    kappa: float
    """Decrease of V a step, relative."""
    hole: float
    """Share of the box around 0 of which nothing is said."""
    converges: bool
    """Whether convergence to 0 is proved."""
    contraction: float | None
    """Factor a step, in the norm of `form`, near 0; None if that was not proved."""
    form: FloatArray | None
    """``P (n, n)`` of the quadratic form that contracts near 0."""
    violation_bound: float | None
    """Statistical grade: share of the set, by volume, in which the claim may fail."""
    delta: float | None
    """Statistical grade: probability that this is wrong."""
    samples: int
    """States of the set that were tried, for the statistical grade."""
    volume: tuple[float, float]
    """At least and at most, of the set within the box: proved where the grade is sound."""
    inner_volume: tuple[float, float]
    """The same for the inner set; 0 if there is none."""
    boxes: int
    seconds: float

    def summary(self) -> dict[str, Scalar]:
        """What holds, how it was found, and the numbers."""
        return {
            "grade": self.grade,
            "statement": self.statement,
            "plant": self.plant,
            "rho": self.rho,
            "c1": self.c1,
            "kappa": self.kappa,
            "volume at least": self.volume[0],
            "volume at most": self.volume[1],
            "inner volume at most": self.inner_volume[1],
            "converges to 0": self.converges,
            "boxes": self.boxes,
            "seconds": self.seconds,
        }

    def require(self, loop: ClosedLoop) -> None:
        """Refuse a loop that the certificate is not about.

        Raises
        ------
        UserError
            Plant, constants, box or weights differ, or the certificate was changed.
        """
        if loop.plant.id != self.plant:
            raise UserError(f"this certificate is for {self.plant}, not for {loop.plant.id}")
        for name, value in zip(self.constant_names, self.constants, strict=True):
            actual = loop.constants().get(name)
            if actual != value:
                raise UserError(f"this certificate is for {name}={value:g}, not for {name}={actual}")
        if not np.array_equal(self.box, loop.half_widths.numpy()):
            raise UserError(f"this certificate is for the box {self.box.tolist()}, not for {loop.half_widths.tolist()}")
        if loop.network_sha256() != self.network_sha256:
            raise UserError("this certificate is for another controller or Lyapunov function: certify this one")
        if loop.set_sha256(*_numbers(self)) != self.set_sha256:
            raise UserError("this certificate does not match its own hash: its numbers were changed")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the volumes."""
        from rlstab.analysis.plots import new_axes

        ax = new_axes() if ax is None else ax
        ax.bar(["set", "inner set"], [self.volume[0], self.inner_volume[1]])
        ax.set_ylabel("volume")
        return ax


@dataclass(frozen=True, eq=False, repr=False)
class RegionReport(Result):
    """How an attempt to certify a region ended: with a certificate, with a counterexample, or with neither."""

    kind: ClassVar[str] = "region_report"

    status: str
    """``"proved"``, ``"refuted"`` or ``"unknown"``."""
    certificate: RegionCertificate | None
    """None if refuted; of a lower grade than sound if unknown."""
    rho: float
    c1: float
    kappa: float
    counterexample: FloatArray | None
    """State, ``(n,)``."""
    next_state: FloatArray | None
    """Where it goes, ``(n,)``."""
    values: tuple[float, float] | None
    """V at the counterexample and after it."""
    reason: str | None
    """Which part of the claim it breaks."""
    boxes: int
    open_boxes: int
    """Undecided when the search ended."""
    seconds: float

    def summary(self) -> dict[str, Scalar]:
        """How it ended, and why."""
        facts: dict[str, Scalar] = {"status": self.status, "rho": self.rho, "c1": self.c1, "kappa": self.kappa}
        if self.certificate is not None:
            facts["grade"] = self.certificate.grade
            facts["volume at least"] = self.certificate.volume[0]
        if self.counterexample is not None:
            facts["counterexample"] = ", ".join(f"{value:.6g}" for value in self.counterexample)
            facts["reason"] = self.reason
        return {**facts, "boxes": self.boxes, "open boxes": self.open_boxes, "seconds": self.seconds}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the certificate's volumes, or the step that breaks the claim in its first two coordinates."""
        from rlstab.analysis.plots import new_axes

        ax = new_axes() if ax is None else ax
        if self.counterexample is not None and self.next_state is not None:
            steps = np.stack([self.counterexample, self.next_state])
            ax.plot(steps[:, 0], steps[:, min(1, steps.shape[1] - 1)], "o-", color="crimson")
            ax.set_title(self.reason or "")
        elif self.certificate is not None:
            self.certificate.plot(ax)
        return ax


def certify_region(
    loop: ClosedLoop,
    claim: Claim,
    budget: Budget | None = None,
    *,
    samples: int = 100_000,
    delta: float = 1e-3,
    seed: int = 1,
) -> RegionReport:
    """Prove a claim, or refute it, or else say what samples say.

    Parameters
    ----------
    loop
        Plant, controller and Lyapunov function.
    claim
        Levels and rate.
    budget
        Of the proof; 60 s if not given.
    samples
        States drawn from the box where no proof was found in time; those of the set count.
    delta
        Probability that the statistical grade is wrong.
    seed
        Of the samples. The level must not have been chosen with the same ones; `verify` tries those of seed 0.
    """
    budget = Budget() if budget is None else budget
    start = time.perf_counter()
    outcome = verify(loop, claim, budget)
    if outcome.status == "proved":
        origin = None
        if claim.c1 > 0.0:
            left = max(1e-3, budget.seconds - outcome.seconds)
            origin = prove_convergence(loop, claim.c1, Budget(seconds=left, boxes=budget.boxes, batch=budget.batch))
        boxes = outcome.boxes + (origin.boxes if origin is not None else 0)
        volumes = sublevel_volume(loop, claim.rho), _inner_volume(loop, claim)
        proof = _certificate(loop, claim, *volumes, boxes, time.perf_counter() - start, origin=origin)
        return _report(claim, outcome, proof)
    if outcome.status == "refuted":
        return _report(claim, outcome, None)
    found, tried = _sampled(loop, claim, samples, seed)
    if found is not None:
        refuted = Verification("refuted", found, outcome.boxes, outcome.open_boxes, outcome.seconds)
        return _report(claim, refuted, None)
    if not tried:
        return _report(claim, outcome, None)
    volume = monte_carlo_volume(loop, claim.rho, samples, seed=seed, delta=delta)
    inner = monte_carlo_volume(loop, claim.c1, samples, seed=seed, delta=delta) if claim.c1 > 0.0 else (0.0, 0.0, 0.0)
    measured = _certificate(
        loop,
        claim,
        volume[1:],
        inner[1:],
        outcome.boxes,
        time.perf_counter() - start,
        sampled=(clopper_pearson(0, tried, delta), delta, tried),
    )
    return _report(claim, outcome, measured)


def _sampled(loop: ClosedLoop, claim: Claim, samples: int, seed: int) -> tuple[Counterexample | None, int]:
    """A counterexample among samples, and how many of them were in the set and counted."""
    states: Tensor = loop.sample(samples, seed)
    with torch.no_grad():
        states = states[loop.value(states) <= claim.rho]
    return find_counterexample(loop, claim, states), len(states)


def _inner_volume(loop: ClosedLoop, claim: Claim) -> tuple[float, float]:
    if claim.c1 > 0.0:
        return sublevel_volume(loop, claim.c1)
    return 0.0, 0.0


def _numbers(source: Claim | RegionCertificate) -> tuple[float, float, float, float]:
    return source.rho, source.c1, source.kappa, source.hole


def _statement(claim: Claim, origin: OriginProof | None, sampled: tuple[float, float, int] | None) -> str:
    step = f"in one step from S = {{x in B: V(x) <= {claim.rho:.6g}}}, the state stays in S"
    if claim.c1 > 0.0:
        step += f" and V falls by {claim.kappa:g} of it, or to {claim.c1:.6g} or less"
        if sampled is None:
            steps = math.ceil(math.log(claim.rho / claim.c1) / -math.log1p(-claim.kappa))
            step += f": trajectories are in {{V <= {claim.c1:.6g}}} after at most {steps} steps and stay"
            step += (
                ", and converge to 0, but for the rounding of F(0)"
                if origin is not None
                else "; convergence to 0 is not shown"
            )
    else:
        step += f" and V falls by {claim.kappa:g} of it"
        step += (
            f", but for a box of {claim.hole:g} of B around 0, of which nothing is said: trajectories may leave S there"
        )
    if sampled is None:
        return step
    bound, delta, tried = sampled
    return f"{step}; with probability {1 - delta:g} for all of S but {bound:.3g} of its volume ({tried} samples)"


def _certificate(
    loop: ClosedLoop,
    claim: Claim,
    volume: tuple[float, float],
    inner_volume: tuple[float, float],
    boxes: int,
    seconds: float,
    *,
    origin: OriginProof | None = None,
    sampled: tuple[float, float, int] | None = None,
) -> RegionCertificate:
    method = "branch and bound on affine bounds, decrease in discrete time (Yang et al. 2024, arXiv:2404.07956)"
    if origin is not None:
        method += "; near 0, interval slopes that contract in a quadratic norm"
    numbers: dict[str, Any] = {"violation_bound": None, "delta": None, "samples": 0}
    if sampled is not None:
        method = "independent uniform samples of the set, Clopper-Pearson"
        numbers = dict(zip(numbers, sampled, strict=True))
    constants = loop.constants()
    return RegionCertificate(
        statement=_statement(claim, origin, sampled),
        grade="sound" if sampled is None else "statistical",
        method=method,
        network_sha256=loop.network_sha256(),
        set_sha256=loop.set_sha256(*_numbers(claim)),
        plant=loop.plant.id,
        constant_names=tuple(constants),
        constants=np.array(list(constants.values())),
        box=loop.half_widths.numpy(),
        rho=claim.rho,
        c1=claim.c1,
        kappa=claim.kappa,
        hole=claim.hole,
        converges=origin is not None,
        contraction=None if origin is None else origin.contraction,
        form=None if origin is None else origin.matrix,
        volume=volume,
        inner_volume=inner_volume,
        boxes=boxes,
        seconds=seconds,
        **numbers,
    )


def _report(claim: Claim, outcome: Verification, certificate: RegionCertificate | None) -> RegionReport:
    found = outcome.counterexample
    return RegionReport(
        status=outcome.status,
        certificate=certificate,
        rho=claim.rho,
        c1=claim.c1,
        kappa=claim.kappa,
        counterexample=None if found is None else found.state,
        next_state=None if found is None else found.next_state,
        values=None if found is None else (found.value, found.next_value),
        reason=None if found is None else found.reason,
        boxes=outcome.boxes,
        open_boxes=outcome.open_boxes,
        seconds=outcome.seconds,
    )
