"""Certificates for policies that `rlstab train lyapunov` made: the loop as it is deployed, in words and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rlstab.analysis.certificates.certificate import Certificate
from rlstab.analysis.certificates.certifier import Certifier, Request
from rlstab.analysis.certificates.lyapunov.certify import certify_largest
from rlstab.analysis.certificates.lyapunov.certify_samples import certify_by_samples
from rlstab.analysis.certificates.lyapunov.drawing import draw_region
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.region_certificate import RegionCertificate, RegionReport
from rlstab.envs.plants import Plant
from rlstab.envs.registry import make_task
from rlstab.errors import UserError
from rlstab.policies.lyapunov_policy import LyapunovPolicy
from rlstab.runs.environment import EnvSettings

MOST_STATES = 4
"""Of a plant for which a proof is tried; six take hours."""


def deployed_loop(policy: LyapunovPolicy) -> ClosedLoop:
    """The loop that a policy closes with its plant, with its controller in single precision as it is deployed."""
    return ClosedLoop(policy.plant, policy.module.controller, policy.module.lyapunov, single_precision=True)


class LyapunovCertifier(Certifier):
    """See `Certifier`."""

    def __init__(self, policy: LyapunovPolicy, settings: EnvSettings) -> None:
        _same_plant(policy.plant, settings)
        if policy.level <= 0.0:
            raise UserError("this policy has not been trained: there is nothing to prove of its first networks")
        self.policy = policy
        self.loop = deployed_loop(policy)

    def certify(self, request: Request, say: Callable[[str], None]) -> RegionReport:
        """See `Certifier.certify`."""
        if request.samples is not None:
            return certify_by_samples(
                self.loop, request.samples, kappa=request.kappa, delta=request.delta, seed=request.seed
            )
        states = self.policy.plant.state_size
        if states > MOST_STATES:
            raise UserError(
                f"{self.policy.plant.id} has {states} states, more than the {MOST_STATES} for which a proof ends in "
                "minutes: add --statistical 100000 for what samples say"
            )
        return certify_largest(self.loop, kappa=request.kappa, seconds=request.seconds, say=say)

    def rows(self, report: RegionReport) -> Iterator[tuple[str, object]]:
        """See `Certifier.rows`."""
        plant, found = self.policy.plant, report.certificate
        what = "area" if plant.state_size == 2 else "volume"
        yield "grade", "none: nothing is claimed" if found is None else found.grade
        yield "claim", _without(report, self.loop) if found is None else found.statement
        yield "plant", f"{plant.id}, steps of {plant.dt:g} s, controls within {_limits(plant)}"
        yield (
            "box B",
            " by ".join(f"+-{half:g} {unit}" for half, unit in zip(plant.box, plant.state_units, strict=True)),
        )
        if found is not None:
            share = found.volume[0] / self.loop.volume
            yield what, f"{found.volume[0]:.5g} to {found.volume[1]:.5g} of {self.loop.volume:.5g} ({share:.1%} of B)"
            yield "rho, c1, kappa", f"{found.rho:.6g}, {found.c1:.4g}, {found.kappa:g}"
            yield f"{what} of V <= c1", f"at most {found.inner_volume[1]:.3g}"
            yield "convergence to 0", _convergence(found)
            yield "precision", "controller reads and commands in float32, as deployed; rounding is part of the claim"
        if report.counterexample is not None and report.values is not None:
            where = "just above rho" if report.status == "proved" else "breaks the claim"
            state = ", ".join(
                f"{name} {x:.5g}" for name, x in zip(plant.state_names, report.counterexample, strict=True)
            )
            yield (
                f"counterexample, {where}",
                f"{state}: V {report.values[0]:.6g} -> {report.values[1]:.6g}; {report.reason}",
            )
        elif report.status == "proved":
            yield "what ends rho", "the budget or the box: no state above it was found that breaks the claim"
        yield "boxes", report.boxes if found is None else found.boxes
        yield "wall time", f"{report.seconds:.1f} s"

    def draw(self, report: RegionReport, path: Path) -> Path:
        """See `Certifier.draw`: level sets of V, the certified set, counterexamples, and closed-loop trajectories."""
        from rlstab.analysis.plots import save

        found = report.certificate
        levels = [report.rho] if found is None else [level for level in (found.c1, found.rho) if level > 0.0]
        axes = draw_region(self.loop, levels, counterexamples=report.counterexample)
        grade = "nothing certified" if found is None else f"{found.grade}, rho {found.rho:.4g}"
        axes.set_title(f"{self.policy.plant.id}: {grade}", fontsize=8, pad=14)
        return save(axes, path)

    def require(self, certificate: Certificate) -> None:
        """See `Certifier.require`."""
        if not isinstance(certificate, RegionCertificate):
            raise UserError(f"a certificate of kind '{certificate.kind}' is not one of a region")
        certificate.require(self.loop)


def _same_plant(plant: Plant, settings: EnvSettings) -> None:
    """Refuse an environment whose plant is another one, be it in one constant."""
    if not isinstance(settings.env_id, str):
        raise UserError("the environment of this policy has no name: a certificate needs its plant's equations")
    task: Any = make_task(settings.env_id, **settings.env_kwargs)
    offered = getattr(task, "plant", None)
    if offered is None:
        raise UserError(f"{settings.env_id} is not one of the plants whose equations are known (rlstab/Plant...)")
    if offered.id != plant.id:
        raise UserError(f"this policy was trained for {plant.id}, {settings.env_id} is {offered.id}")
    ours, theirs = plant.constants(), offered.constants()
    for name, value in ours.items():
        if theirs[name] != value:
            raise UserError(
                f"this policy was trained for {name}={value:g}, {settings.env_id} has {name}={theirs[name]:g}: what is "
                "proved of one says nothing of the other"
            )


def _limits(plant: Plant) -> str:
    ends = zip(plant.control_low, plant.control_high, strict=True)
    return ", ".join(f"[{low:g}, {high:g}]" for low, high in ends)


def _convergence(found: RegionCertificate) -> str:
    if not found.is_proof:
        return "not proved: samples say nothing of it"
    if not found.converges or found.form is None:
        return "not proved: trajectories stay in V <= c1, where anything may happen"
    matrix = np.array2string(found.form, precision=4, separator=", ").replace("\n", "")
    return f"proved: x'Px with P={matrix} contracts by {found.contraction:.4g} a step near 0"


def _without(report: RegionReport, loop: ClosedLoop) -> str:
    if report.status == "refuted":
        return f"no level of V up to {report.rho:.4g} was proved; the state below breaks the claim"
    return f"nothing was proved of {loop.plant.id} before the budget ended: give it more time, or --statistical N"
