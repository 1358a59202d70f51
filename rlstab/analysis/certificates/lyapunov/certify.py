"""Certify a region of attraction: at a level that is given, or at the largest that a time budget allows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch
from torch import Tensor

from rlstab.analysis.certificates.lyapunov.level_search import ceiling, choose_inner, search_level
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.origin import prove_convergence
from rlstab.analysis.certificates.lyapunov.region_certificate import (
    RegionReport,
    Sampled,
    make_certificate,
    make_report,
)
from rlstab.analysis.certificates.lyapunov.regions import monte_carlo_volume, roa_bisection, sublevel_volume
from rlstab.analysis.certificates.lyapunov.verifier import (
    Budget,
    Claim,
    Counterexample,
    Verification,
    find_counterexample,
    verify,
)
from rlstab.errors import UserError

LEAST_SECONDS = 1.0
"""Below this a budget is refused: hardly anything is proved in it."""


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
        volumes = _less_hole(loop, claim, sublevel_volume(loop, claim.rho)), _inner_volume(loop, claim)
        proof = make_certificate(loop, claim, *volumes, boxes, time.perf_counter() - start, origin=origin)
        return make_report(claim, outcome, proof)
    if outcome.status == "refuted":
        return make_report(claim, outcome, None)
    found, tried = _sampled(loop, claim, samples, seed)
    if found is not None:
        refuted = Verification("refuted", found, outcome.boxes, outcome.open_boxes, outcome.seconds)
        return make_report(claim, refuted, None)
    # Too few samples in the set bound nothing: no certificate then, rather than an empty one.
    if not tried or Sampled(0, tried, delta).bound >= 0.5:
        return make_report(claim, outcome, None)
    volume = monte_carlo_volume(loop, claim.rho, samples, seed=seed, delta=delta)
    inner = monte_carlo_volume(loop, claim.c1, samples, seed=seed, delta=delta) if claim.c1 > 0.0 else (0.0, 0.0, 0.0)
    measured = make_certificate(
        loop,
        claim,
        _less_hole(loop, claim, volume[1:]),
        inner[1:],
        outcome.boxes,
        time.perf_counter() - start,
        sampled=Sampled(0, tried, delta),
    )
    return make_report(claim, outcome, measured)


def certify_largest(
    loop: ClosedLoop,
    *,
    kappa: float = 1e-3,
    seconds: float = 60.0,
    say: Callable[[str], None] | None = None,
) -> RegionReport:
    """Prove the largest level that can be found and proved within a time budget.

    A third of the budget at most goes to the inner level, two fifths of what is left to the search for the outer one,
    the rest to the proof. Where a proof at the level found takes longer than that, lower ones are tried by bisection.

    Parameters
    ----------
    loop
        Plant, controller and Lyapunov function.
    kappa
        Decrease a step, relative.
    seconds
        Wall time for everything; kept to within a second or so.
    say
        Is told what goes on, a line at a time.

    Returns
    -------
    RegionReport
        ``proved`` with its certificate, and what breaks the claim just above if that was met; ``refuted`` where not
        even a small level set holds; ``unknown`` where the budget ended first.

    Raises
    ------
    UserError
        The budget is too small.
    """
    if not seconds >= LEAST_SECONDS:
        raise UserError(f"a budget of {seconds:g} s is too small to prove anything: give at least {LEAST_SECONDS:g}s")
    say = say or _silent
    end = time.perf_counter() + seconds
    top = ceiling(loop)
    c1, broken = choose_inner(loop, kappa, top, 0.35 * seconds)
    if not c1:
        say("no inner level was proved")
        return _nothing(Claim(rho=top, kappa=kappa), broken, seconds - (end - time.perf_counter()))
    found = search_level(loop, kappa, c1, top, 0.4 * (end - time.perf_counter()))
    say(f"inner level {c1:.4g}; the largest level that may hold is {found.rho:.6g} ({found.boxes} boxes)")
    # For volumes, which are bounded by boxes too.
    reserve = min(6.0, 0.15 * seconds)
    best: list[RegionReport] = []

    def proves(level: float, share: float = 0.4) -> bool:
        left = end - reserve - time.perf_counter()
        if left <= 0.0 or level <= 1.01 * c1:
            return False
        claim = Claim(rho=level, kappa=kappa, c1=c1)
        report = certify_region(loop, claim, Budget(seconds=share * left), samples=0)
        say(f"level {level:.6g}: {report.status}")
        if report.status == "proved":
            best.append(report)
        return report.status == "proved"

    aim = found.rho * (1.0 - 1e-4)
    if not proves(aim, 1.0 if found.finished else 0.5) and aim > 4.0 * c1:
        roa_bisection(proves, max(2.0 * c1, aim / 256.0), 0.7 * aim, relative=0.02, calls=12)
    spent = seconds - (end - time.perf_counter())
    if not best:
        return _nothing(Claim(rho=max(aim, 1.01 * c1), kappa=kappa, c1=c1), found.counterexample, spent)
    report = max(best, key=lambda each: each.rho)
    above = found.counterexample
    if above is not None and above.value > report.rho:
        report = dataclasses.replace(
            report,
            counterexample=above.state,
            next_state=above.next_state,
            values=(above.value, above.next_value),
            reason=above.reason,
        )
    return dataclasses.replace(report, seconds=spent)


def _nothing(claim: Claim, broken: Counterexample | None, seconds: float) -> RegionReport:
    status = "unknown" if broken is None else "refuted"
    return make_report(claim, Verification(status, broken, 0, 0, seconds), None)


def _silent(line: str) -> None:
    del line


def _sampled(loop: ClosedLoop, claim: Claim, samples: int, seed: int) -> tuple[Counterexample | None, int]:
    """A counterexample among samples, and how many of them were in the set and counted."""
    states: Tensor = loop.sample(samples, seed)
    with torch.no_grad():
        in_hole = (states.abs() <= claim.hole * loop.half_widths).all(1)
        # A state of the hole breaks nothing, and must not count as one that holds.
        states = states[(loop.value(states) <= claim.rho) & ~in_hole]
    return find_counterexample(loop, claim, states), len(states)


def _less_hole(loop: ClosedLoop, claim: Claim, volume: tuple[float, float]) -> tuple[float, float]:
    """Without the hole, which `verify` has shown to be within the set."""
    if claim.hole == 0.0:
        return volume
    hole = claim.hole ** len(loop.half_widths) * loop.volume
    return max(0.0, volume[0] - hole * (1.0 + 1e-9)), max(0.0, volume[1] - hole * (1.0 - 1e-9))


def _inner_volume(loop: ClosedLoop, claim: Claim) -> tuple[float, float]:
    if claim.c1 > 0.0:
        return sublevel_volume(loop, claim.c1)
    return 0.0, 0.0
