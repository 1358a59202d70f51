"""Say of a region what samples say, where it has too many states for a proof; labelled so.

The level is lowered on samples until none of them breaks the claim; what is reported comes from other samples, drawn
after the level was fixed.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import torch
from torch import Tensor

from rlstab.analysis.certificates.lyapunov.level_search import INNER_SHARES, ceiling
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.region_certificate import (
    RegionReport,
    Sampled,
    make_certificate,
    make_report,
)
from rlstab.analysis.certificates.lyapunov.regions import ellipsoid_volume
from rlstab.analysis.certificates.lyapunov.statistical import (
    clopper_pearson,
    clopper_pearson_interval,
    require_informative,
)
from rlstab.analysis.certificates.lyapunov.verifier import Claim, Verification, find_counterexample, violations
from rlstab.errors import UserError
from rlstab.policies.lyapunov import QuadraticLyapunov

LEAST_SAMPLES = 1000
_BATCH = 100_000
_ROUNDS = 40


class SetSamples(NamedTuple):
    """States drawn uniformly from a set, by rejection from a larger one."""

    states: Tensor
    """``(k, n)``."""
    tried: int
    volume: float
    """Of what was drawn from."""


def sample_set(loop: ClosedLoop, rho: float, count: int, seed: int, most: int = 20_000_000) -> SetSamples:
    """Draw states uniformly from ``{x in B: V(x) <= rho}``, by rejection from ``B`` or from the ellipsoid.

    Parameters
    ----------
    count
        How many; fewer are returned if ``most`` have been tried before.
    seed
        Of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    kept: list[Tensor] = []
    found = tried = 0
    volume = 0.0
    while found < count and tried < most:
        states, volume = _candidates(loop, rho, generator)
        with torch.no_grad():
            inside = loop.inside(states) & (loop.value(states) <= rho)
        # What is tried after the last one that is needed does not count.
        order = inside.cumsum(0)
        if found + int(order[-1]) >= count:
            last = int((order == count - found).nonzero()[0]) + 1
            states, inside = states[:last], inside[:last]
        kept.append(states[inside])
        found, tried = found + len(kept[-1]), tried + len(states)
    return SetSamples(torch.cat(kept), tried, volume)


def certify_by_samples(
    loop: ClosedLoop, samples: int, *, kappa: float = 1e-3, delta: float = 1e-3, seed: int = 1
) -> RegionReport:
    """Choose a level on some samples, and bound on others in which share of its set the claim fails.

    Parameters
    ----------
    loop
        Plant, controller and Lyapunov function.
    samples
        States of the set that are tried, after as many have chosen the level.
    kappa
        Decrease a step, relative.
    delta
        Probability that the bound is wrong.
    seed
        Of the samples.

    Returns
    -------
    RegionReport
        ``unknown``, since nothing is proved, with a certificate of the statistical grade; ``refuted`` where the search
        for a level ends at the smallest one that is tried.

    Raises
    ------
    UserError
        There are too few samples to say anything, or too many of them break the claim.
    """
    if samples < LEAST_SAMPLES:
        raise UserError(f"{samples} samples say next to nothing: give at least {LEAST_SAMPLES}")
    require_informative(clopper_pearson(0, samples, delta), samples, delta)
    start = time.perf_counter()
    claim, broken = _choose(loop, samples, kappa, seed)
    if claim is None:
        assert broken is not None
        lowest = Claim(rho=broken[1], kappa=kappa)
        outcome = Verification("refuted", find_counterexample(loop, lowest, broken[0]), 0, 0, _since(start))
        return make_report(lowest, outcome, None)
    drawn = sample_set(loop, claim.rho, samples, seed + 1)
    if len(drawn.states) < LEAST_SAMPLES:
        raise UserError(
            f"only {len(drawn.states)} of {drawn.tried} states were in the set V <= {claim.rho:.3g}: it is too small a "
            "part of the box for samples"
        )
    excess = violations(loop, claim, drawn.states)[0]
    count = int((excess > -torch.inf).sum())
    sampled = Sampled(count, len(drawn.states), delta)
    require_informative(sampled.bound, sampled.samples, delta)
    found = find_counterexample(loop, claim, drawn.states)
    inner = sample_set(loop, claim.c1, LEAST_SAMPLES, seed + 2)
    certificate = make_certificate(
        loop,
        claim,
        _volume(drawn, delta),
        _volume(inner, delta),
        0,
        _since(start),
        sampled=sampled,
    )
    return make_report(claim, Verification("unknown", found, 0, 0, _since(start)), certificate)


def _choose(
    loop: ClosedLoop, samples: int, kappa: float, seed: int
) -> tuple[Claim | None, tuple[Tensor, float] | None]:
    """Lower the level to what samples allow; the last ones and their level where nothing is left."""
    rho = top = ceiling(loop)
    broken: Tensor | None = None
    for index in range(_ROUNDS):
        c1 = 1e-3 * rho
        states = sample_set(loop, rho, samples, 1000 * (seed + 1) + index).states
        excess, value, _, _ = violations(loop, Claim(rho=rho, kappa=kappa, c1=c1), states)
        failing = value[excess > -torch.inf]
        if not len(failing):
            inner = _inner(loop, rho, kappa, samples // 4, seed)
            return (None, (states, rho)) if inner is None else (Claim(rho=rho, kappa=kappa, c1=inner), None)
        broken, level = states, float(failing.min())
        # Fresh samples at the level itself will find a lower one still: what is within a hundredth is not pursued.
        rho = 0.99 * max(level, c1)
        if rho < 1e-9 * top:
            break
    assert broken is not None
    return None, (broken, float(loop.value(broken).max()))


def _inner(loop: ClosedLoop, rho: float, kappa: float, samples: int, seed: int) -> float | None:
    for index, share in enumerate(INNER_SHARES):
        c1 = share * rho
        states = sample_set(loop, 3.0 * c1, samples, 10_000 * (seed + 1) + index).states
        if find_counterexample(loop, Claim(rho=3.0 * c1, kappa=kappa, c1=c1), states) is None and len(states):
            return c1
    return None


def _candidates(loop: ClosedLoop, rho: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """States uniform in a set around the level set, the smaller of the two that are known, and its volume."""
    size = len(loop.half_widths)
    ellipsoid = math.inf
    if type(loop.lyapunov) is QuadraticLyapunov:
        ellipsoid = ellipsoid_volume(loop.lyapunov.matrix, rho * (1.0 + 1e-9) ** 2)
    if ellipsoid < loop.volume and isinstance(loop.lyapunov, QuadraticLyapunov):
        radius = math.sqrt(rho) * (1.0 + 1e-9)
        direction = torch.randn(_BATCH, size, generator=generator, dtype=torch.float64)
        length = torch.rand(_BATCH, 1, generator=generator, dtype=torch.float64) ** (1.0 / size)
        ball = radius * length * direction / direction.norm(dim=1, keepdim=True)
        return ball @ torch.linalg.inv(loop.lyapunov.factor), ellipsoid
    share = torch.rand(_BATCH, size, generator=generator, dtype=torch.float64)
    return (2.0 * share - 1.0) * loop.half_widths, loop.volume


def _volume(drawn: SetSamples, delta: float) -> tuple[float, float]:
    low, high = clopper_pearson_interval(len(drawn.states), drawn.tried, delta)
    return low * drawn.volume, high * drawn.volume


def _since(start: float) -> float:
    return time.perf_counter() - start
