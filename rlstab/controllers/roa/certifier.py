"""What samples prove of learned regions of attraction: for `rlstab certify` of runs of the method `roa`.

Levels are outputs of a network, so nothing about them is sound. What can be had is a probability statement: of pairs of
configuration and state that lie inside the learned set, at most a share ``p`` does not do what the level claims.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from rlstab.analysis.certificates.certificate import Certificate, digest
from rlstab.analysis.certificates.certifier import Certifier, Request
from rlstab.analysis.certificates.lyapunov.statistical import (
    clopper_pearson,
    clopper_pearson_interval,
    require_informative,
)
from rlstab.analysis.result import Result, Scalar
from rlstab.controllers.roa.learner import SYSTEMS, system_of
from rlstab.envs.registry import make_task
from rlstab.errors import UserError
from rlstab.policies.roa.policy import RoaPolicy
from rlstab.policies.tensors import state_to_arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rlstab.runs.environment import EnvSettings

DEFAULT_SAMPLES, LEAST_SAMPLES = 10_000, 1000
_CHUNK = 4096
_WORTHLESS = 0.5
"""Bound from which on a certificate says nothing."""
_EDGES = np.linspace(0.0, 3.0, 31)
"""Of the bins of ``V / rho``."""


@dataclass(frozen=True, eq=False, repr=False)
class RoaCertificate(Certificate):
    """A bound on the share of the learned set from which the claim fails."""

    kind = "roa_certificate"

    system: str
    samples: int
    """Pairs of configuration and state inside, drawn independently."""
    failures: int
    """Of them, those that did not do what is claimed."""
    failure_bound: float
    """Upper bound on their probability, by Clopper and Pearson."""
    delta: float
    """Probability that the bound is wrong."""
    inside: tuple[float, float]
    """Share of what is drawn that is inside, at least and at most."""
    seed: int

    def summary(self) -> dict[str, Scalar]:
        """What holds, and the numbers."""
        return {
            "grade": self.grade,
            "statement": self.statement,
            "failures": f"{self.failures:,} of {self.samples:,}",
            "failures at most": self.failure_bound,
            "delta": self.delta,
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the failures' share and its bound."""
        from rlstab.analysis.plots import new_axes

        ax = new_axes() if ax is None else ax
        ax.bar(["seen", "at most"], [self.failures / self.samples, self.failure_bound])
        ax.set_ylabel("share that fails")
        return ax


@dataclass(frozen=True, eq=False, repr=False)
class RoaReport(Result):
    """What was drawn, inside and outside of the learned set."""

    kind = "roa_report"

    status: str
    """``unknown``: nothing is proved."""
    certificate: RoaCertificate
    edges: NDArray[np.float64]
    """Of bins of ``V / rho``, ``(b + 1,)``."""
    drawn: NDArray[np.int64]
    """In each bin, ``(b,)``."""
    stable: NDArray[np.int64]
    """Of them, those that did what is claimed, ``(b,)``."""

    def summary(self) -> dict[str, Scalar]:
        """That of the certificate."""
        return self.certificate.summary()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share that does what is claimed, with 95 % intervals, against ``V / rho``: it should fall at 1."""
        from rlstab.analysis.plots import new_axes

        ax = new_axes() if ax is None else ax
        some = self.drawn > 0
        middle = 0.5 * (self.edges[:-1] + self.edges[1:])
        low, high = np.array(
            [
                clopper_pearson_interval(int(k), int(n), 0.05)
                for k, n in zip(self.stable[some], self.drawn[some], strict=True)
            ]
        ).T.reshape(2, -1)
        ax.fill_between(middle[some], low, high, alpha=0.3)
        ax.plot(middle[some], self.stable[some] / self.drawn[some])
        ax.axvline(1.0, linestyle="--", color="black")
        ax.set(xlabel="V / rho at the start", ylabel="share that does as claimed", ylim=(-0.02, 1.05))
        return ax


class RoaCertifier(Certifier):
    """See `Certifier`; `Request.samples` pairs are drawn inside the set, 10,000 if nothing is said."""

    def __init__(self, policy: RoaPolicy, settings: EnvSettings) -> None:
        self._model, self._settings = policy.module, settings
        self._system = system_of(policy.module)
        self._like = next(policy.module.parameters())
        expected = next(env for env, module in SYSTEMS.items() if f".{policy.module.system}." in module)
        if settings.env_id != expected:
            raise UserError(f"this policy was trained for {expected}, not for {settings.env_id}")
        # Refuses settings that the environment does not have.
        make_task(expected, **settings.env_kwargs)

    def certify(self, request: Request, say: Callable[[str], None]) -> RoaReport:
        """See `Certifier.certify`.

        Raises
        ------
        UserError
            There are too few samples to say anything, or next to nothing is inside the set.
        """
        samples = DEFAULT_SAMPLES if request.samples is None else request.samples
        if samples < LEAST_SAMPLES:
            raise UserError(f"{samples} samples say next to nothing: give at least {LEAST_SAMPLES}")
        # However many of them hold. That a controller fails half of the time, on the other hand, is worth to be said.
        require_informative(clopper_pearson(0, samples, request.delta), samples, request.delta)
        if request.samples is None:
            say(f"levels that a network estimates cannot be proved: {samples:,} roll-outs inside are tried instead")
        rng = np.random.default_rng([request.seed, 0x5EED])
        ratios, held, inside = np.zeros(0), np.zeros(0, bool), 0
        while inside < samples:
            x, configuration = (part.to(self._like) for part in self._system.sample(rng, _CHUNK, 1))
            loops = self._system.roll_out(self._model, x[:, 0], configuration, self._system.claim.steps)
            with torch.no_grad():
                level = self._model.level(configuration).double().cpu().numpy()
            ratio, stable = loops.values[0] / level, self._system.stable(loops, configuration)
            below = ratio <= 1.0
            # What is drawn after the last one that is needed does not count.
            end = int(np.searchsorted(np.cumsum(below), samples - inside)) + 1
            ratios, held = np.append(ratios, ratio[:end]), np.append(held, stable[:end])
            inside += int(below[:end].sum())
            if inside < 1e-3 * len(ratios):
                raise UserError(f"only {inside} of {len(ratios)} samples are inside the learned set: train for longer")
        return self._report(ratios, held, samples, request)

    def _report(
        self, ratios: NDArray[np.float64], held: NDArray[np.bool_], samples: int, request: Request
    ) -> RoaReport:
        below, claim = ratios <= 1.0, self._system.claim
        failures = int((below & ~held).sum())
        bound = clopper_pearson(failures, samples, request.delta)
        if bound >= _WORTHLESS:
            raise UserError(
                f"{failures:,} of {samples:,} roll-outs from inside the learned set fail, a share of up to "
                f"{bound:.3g}: that certifies nothing; train for longer, or try more samples"
            )
        certificate = RoaCertificate(
            statement=f"drawn from {claim.drawn}: of pairs inside, V <= rho, at most a share {bound:.3g} does not do "
            f"the following, with confidence {1.0 - request.delta:g}: {claim.holds}",
            grade="statistical",
            method="Clopper-Pearson bound on independent roll-outs of the deployed controller in the exact simulation",
            network_sha256=self._hash(),
            set_sha256="",
            system=self._model.system,
            samples=samples,
            failures=failures,
            failure_bound=bound,
            delta=request.delta,
            inside=clopper_pearson_interval(samples, len(ratios), request.delta),
            seed=request.seed,
        )
        certificate = dataclasses.replace(certificate, set_sha256=self._hash_of(certificate))
        drawn, _ = np.histogram(ratios, _EDGES)
        stable, _ = np.histogram(ratios[held], _EDGES)
        return RoaReport("unknown", certificate, _EDGES, drawn, stable)

    def rows(self, report: RoaReport) -> Iterator[tuple[str, object]]:
        """See `Certifier.rows`."""
        found = report.certificate
        yield "grade", found.grade
        yield "claim", found.statement
        yield "failures inside", f"{found.failures:,} of {found.samples:,}, at most {found.failure_bound:.3g}"
        yield "share of what is drawn that is inside", f"{found.inside[0]:.3g} to {found.inside[1]:.3g}"
        outside = report.edges[:-1] >= 1.0
        if report.drawn[outside].sum():
            within, beyond = (
                (int(report.stable[part].sum()), int(report.drawn[part].sum())) for part in (~outside, outside)
            )
            text = f"{within[0] / within[1]:.3g} / {beyond[0] / beyond[1]:.3g}"
            # Where both fail equally often V says nothing about where stability ends, and no level is cautious.
            if clopper_pearson_interval(*within, 0.05)[0] > clopper_pearson_interval(*beyond, 0.05)[1] and beyond[0]:
                text += " (what is stable outside is what the level gives away)"
            yield "stable inside / outside (V/rho 1 to 3)", text
        yield "margin of the level", f"factor {float((-self._model.margin).exp()):.3g} on the estimate"

    def draw(self, report: RoaReport, path: Path) -> Path:
        """See `Certifier.draw`."""
        from rlstab.analysis.plots import save

        axes = report.plot()
        axes.set_title(
            f"{self._model.system}: statistical, {report.certificate.samples:,} roll-outs inside", fontsize=8
        )
        return save(axes, path)

    def require(self, certificate: Certificate) -> None:
        """See `Certifier.require`."""
        if not isinstance(certificate, RoaCertificate) or certificate.system != self._model.system:
            raise UserError(f"a certificate of kind '{certificate.kind}' is not one of these regions of attraction")
        if certificate.network_sha256 != self._hash():
            raise UserError("this certificate is for another controller or Lyapunov function: certify this one")
        if self._hash_of(certificate) != certificate.set_sha256:
            raise UserError("this certificate is for other settings of the environment, or its content was changed")

    def _hash_of(self, certificate: RoaCertificate) -> str:
        """Of the claim, the settings of the environment, and all that the certificate says."""
        claim, settings = self._system.claim, sorted(self._settings.env_kwargs.items())
        said = {name: value for name, value in certificate.to_dict().items() if name != "set_sha256"}
        text = json.dumps([claim.steps, claim.drawn, claim.holds, settings, said], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _hash(self) -> str:
        return digest(*(np.asarray(value, np.float64) for _, value in sorted(state_to_arrays(self._model).items())))
