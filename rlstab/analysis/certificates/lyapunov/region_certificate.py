"""Certificates of regions of attraction: what is proved or measured, for exactly which loop and set."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlstab.analysis.certificates.certificate import Certificate, digest
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.origin import OriginProof
from rlstab.analysis.certificates.lyapunov.statistical import clopper_pearson
from rlstab.analysis.certificates.lyapunov.verifier import Claim, Verification
from rlstab.analysis.result import Result, Scalar
from rlstab.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class RegionCertificate(Certificate):
    """That a level set of a Lyapunov function is never left, and that trajectories in it come near 0 or converge.

    Its ``set_sha256`` is of all that it says, grade and statement included.
    """

    kind: ClassVar[str] = "region_certificate"

    plant: str
    constant_names: tuple[str, ...]
    constants: FloatArray = field(metadata={"unit": "SI"})
    """Of the plant, ``(k,)``."""
    box: FloatArray = field(metadata={"unit": "of the state"})
    """Half-widths of the box within which the set is taken, ``(n,)``."""
    single_precision: bool
    """Whether the proof allows for a controller that reads and commands in float32, as deployed ones do."""
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
    """At least and at most, of the set within the box, less the hole: proved where the grade is sound."""
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
        if loop.single_precision != self.single_precision:
            kinds = ("double", "single")
            ours, theirs = kinds[self.single_precision], kinds[loop.single_precision]
            raise UserError(f"this certificate is for a controller in {ours} precision, not in {theirs}")
        if loop.network_sha256() != self.network_sha256:
            raise UserError("this certificate is for another controller or Lyapunov function: certify this one")
        if _content_sha256(self, loop) != self.set_sha256:
            raise UserError("this certificate does not match its own hash: its numbers or words were changed")

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
    """State that breaks the claim, ``(n,)``; where the claim is proved, one just above its level, if one was met."""
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


def _content_sha256(certificate: RegionCertificate, loop: ClosedLoop) -> str:
    """Of the loop's plant and box, and of every field but this hash itself.

    It finds what was changed by accident or carelessness. Who changes a certificate on purpose can change the hash too.
    """
    found = hashlib.sha256(f"{certificate.kind} {loop.set_sha256()}".encode())
    for item in dataclasses.fields(certificate):
        if item.name != "set_sha256":
            found.update(f"{item.name}={_text(getattr(certificate, item.name))};".encode())
    return found.hexdigest()


def _text(value: Any) -> str:
    """One text for equal values, whether or not they have been on a disk, where 1 and 1.0 or tuples and lists mix."""
    if value is None or isinstance(value, str | bool | np.bool_):
        return json.dumps(bool(value) if isinstance(value, np.bool_) else value)
    if isinstance(value, np.ndarray):
        return digest(value)
    if isinstance(value, tuple | list):
        return "[" + ",".join(map(_text, value)) + "]"
    return repr(float(value))


class Sampled(NamedTuple):
    """What independent samples of a set, drawn after it was fixed, say of it."""

    violations: int
    samples: int
    delta: float
    """Probability that the bound is wrong."""

    @property
    def bound(self) -> float:
        """Of the share of the set, by volume, in which the claim fails."""
        return clopper_pearson(self.violations, self.samples, self.delta)


def _statement(claim: Claim, origin: OriginProof | None, sampled: Sampled | None) -> str:
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
    seen = f"{sampled.violations} of {sampled.samples} samples broke it"
    sure = f"with probability {1 - sampled.delta:g} this holds for all of S but {sampled.bound:.3g} of its volume"
    return f"{step}; {sure} ({seen}); it says nothing of two steps in a row"


def make_certificate(
    loop: ClosedLoop,
    claim: Claim,
    volume: tuple[float, float],
    inner_volume: tuple[float, float],
    boxes: int,
    seconds: float,
    *,
    origin: OriginProof | None = None,
    sampled: Sampled | None = None,
) -> RegionCertificate:
    """Make the certificate of a proof, or of samples if ``sampled`` is given."""
    method = "branch and bound on affine bounds, decrease in discrete time (Yang et al. 2024, arXiv:2404.07956)"
    if origin is not None:
        method += "; near 0, interval slopes that contract in a quadratic norm"
    numbers: dict[str, Any] = {"violation_bound": None, "delta": None, "samples": 0}
    if sampled is not None:
        method = "independent uniform samples of the set, Clopper-Pearson"
        numbers = {"violation_bound": sampled.bound, "delta": sampled.delta, "samples": sampled.samples}
    constants = loop.constants()
    certificate = RegionCertificate(
        statement=_statement(claim, origin, sampled),
        grade="sound" if sampled is None else "statistical",
        method=method,
        network_sha256=loop.network_sha256(),
        set_sha256="",
        plant=loop.plant.id,
        constant_names=tuple(constants),
        constants=np.array(list(constants.values())),
        box=loop.half_widths.numpy(),
        single_precision=loop.single_precision,
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
    return dataclasses.replace(certificate, set_sha256=_content_sha256(certificate, loop))


def make_report(claim: Claim, outcome: Verification, certificate: RegionCertificate | None) -> RegionReport:
    """Report how a proof ended."""
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
