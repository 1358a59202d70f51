"""Where to aim a proof: the inner level, and the largest outer one, found in one pass of branch and bound.

Bisection proves from scratch at every level. Instead the undecided box on which ``V`` may be lowest is cut first, so
that at any time every level below that is likely to be provable: bounds did it already, box by box. What comes out only
says which claim to prove; the proof itself is `rlstab.analysis.certificates.lyapunov.verifier.verify`'s.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor

from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.origin import prove_convergence
from rlstab.analysis.certificates.lyapunov.verifier import (
    Budget,
    Claim,
    Counterexample,
    find_counterexample,
    frame_of,
    grid,
    split,
    undecided,
    verify,
    violations,
)
from rlstab.policies.lyapunov import QuadraticLyapunov

INNER_SHARES = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)
"""Inner levels that are tried, as shares of the ceiling."""

_BATCH = 4096


class Level(NamedTuple):
    """What a search for the largest level found."""

    rho: float
    """Largest level that may be provable; 0 if none is."""
    counterexample: Counterexample | None
    """What breaks the claim at a level hardly above; None where none was met."""
    finished: bool
    """Whether the search came to its end; otherwise more time may find more."""
    boxes: int
    seconds: float


def ceiling(loop: ClosedLoop) -> float:
    """A level that no set within ``B`` exceeds: the largest ``V`` on the corners and faces of ``B`` that were tried."""
    states = loop.sample(20_000, seed=2)
    faces = states / (states.abs() / loop.half_widths).amax(1, keepdim=True)
    corners = torch.cartesian_prod(*(torch.stack([-side, side]) for side in loop.half_widths))
    with torch.no_grad():
        return float(torch.cat([loop.value(faces), loop.value(corners.reshape(-1, len(loop.half_widths)))]).max())


def choose_inner(loop: ClosedLoop, kappa: float, top: float, seconds: float) -> tuple[float, Counterexample | None]:
    """Find the smallest inner level of a ladder above which ``V`` is proved to fall, to three times it.

    Where possible it is one from which convergence to 0 is proved too.

    Parameters
    ----------
    loop
        Plant, controller and Lyapunov function.
    kappa
        Decrease a step.
    top
        Of which `INNER_SHARES` are tried.
    seconds
        For the whole ladder.

    Returns
    -------
    float, Counterexample or None
        The level, 0 if none was proved; and what broke the last claim.
    """
    until, fallback, broken = time.perf_counter() + seconds, 0.0, None
    for share in INNER_SHARES:
        left = until - time.perf_counter()
        if left <= 0.0:
            break
        c1 = share * top
        outcome = verify(loop, Claim(rho=3.0 * c1, kappa=kappa, c1=c1), Budget(seconds=max(0.05, 0.25 * left)))
        if outcome.status != "proved":
            broken = outcome.counterexample or broken
            continue
        fallback = fallback or c1
        if prove_convergence(loop, c1, Budget(seconds=max(0.05, 0.1 * left))) is not None:
            return c1, broken
        if share >= 100.0 * fallback / top:
            break
    return fallback, broken


def search_level(loop: ClosedLoop, kappa: float, c1: float, top: float, seconds: float, gap: float = 2e-3) -> Level:
    """Find the largest level, up to ``top``, that bounds leave possible.

    Parameters
    ----------
    loop
        Plant, controller and Lyapunov function.
    kappa, c1
        As in `Claim`.
    top
        Where to begin; see `ceiling`.
    seconds
        After which to stop: the level is then what is decided so far.
    gap
        Relative distance to a counterexample at which to stop.
    """
    start, boxes = time.perf_counter(), 0
    claim = Claim(rho=max(top, 1.001 * c1), kappa=kappa, c1=c1)
    found, claim = _lower(loop, claim, loop.sample(100_000, seed=0), None)
    if type(loop.lyapunov) is QuadraticLyapunov:
        # Its boxes are cut in coordinates in which the set is a ball, whose size the samples have told.
        frame = frame_of(loop, claim)
    else:
        frame = frame_of(loop, Claim(rho=top, kappa=kappa, c1=c1))
    low, high = grid(-frame.half, frame.half, 16 if len(frame.half) <= 2 else 4)
    least = torch.zeros(len(low), dtype=torch.float64)
    with torch.no_grad():
        while len(low):
            lowest = float(least.min())
            if lowest >= (1.0 - gap) * claim.rho:
                return Level(lowest, found, True, boxes, time.perf_counter() - start)
            if time.perf_counter() - start > seconds:
                return Level(lowest, found, False, boxes, time.perf_counter() - start)
            first = least.topk(min(_BATCH, len(least)), largest=False).indices
            rest = torch.ones(len(least), dtype=torch.bool)
            rest[first] = False
            boxes += len(first)
            is_open, values = undecided(loop, claim, frame.state(low[first], high[first]))
            part_low, part_high, part_least = low[first][is_open], high[first][is_open], values[is_open]
            found, claim = _lower(loop, claim, frame.centres(part_low, part_high), found)
            new_low, new_high = split(part_low, part_high, frame.half)
            new_least = torch.maximum(part_least, least[first][is_open]).repeat(2)
            low, high = torch.cat([low[rest], new_low]), torch.cat([high[rest], new_high])
            least = torch.cat([least[rest], new_least])
            kept = least <= claim.rho
            low, high, least = low[kept], high[kept], least[kept]
            if len(low) and bool(((high - low) <= 1e-12 * frame.half).any()):
                return Level(float(least.min()), found, False, boxes, time.perf_counter() - start)
    # Nothing is open up to the ceiling.
    return Level(claim.rho * (1.0 - 1e-6), found, True, boxes, time.perf_counter() - start)


def gather_counterexamples(loop: ClosedLoop, claim: Claim, boxes: int) -> Tensor:
    """States that break a claim, everywhere rather than one: the middles of boxes that bounds leave open, ``(k, n)``.

    Parameters
    ----------
    loop, claim
        What is looked into.
    boxes
        To bound at most; large ones come first, and those with a counterexample in the middle are not cut further.
    """
    frame = frame_of(loop, claim)
    low, high = grid(-frame.half, frame.half, 16 if len(frame.half) <= 2 else 4)
    found: list[Tensor] = []
    count = 0
    with torch.no_grad():
        while len(low) and count < boxes:
            part_low, part_high = low[:_BATCH], high[:_BATCH]
            count += len(part_low)
            is_open, _ = undecided(loop, claim, frame.state(part_low, part_high))
            part_low, part_high = part_low[is_open], part_high[is_open]
            centres = frame.centres(part_low, part_high)
            broken = violations(loop, claim, centres)[0] > -torch.inf if len(centres) else is_open[:0]
            found.append(centres[broken])
            new_low, new_high = split(part_low[~broken], part_high[~broken], frame.half)
            low, high = torch.cat([low[_BATCH:], new_low]), torch.cat([high[_BATCH:], new_high])
    return torch.cat(found) if found else torch.zeros(0, len(frame.half), dtype=torch.float64)


def _lower(
    loop: ClosedLoop, claim: Claim, states: Tensor, found: Counterexample | None
) -> tuple[Counterexample | None, Claim]:
    """Take the lowest of the states that break a claim for a counterexample, and the level down to it."""
    if not len(states):
        return found, claim
    excess, value, _, _ = violations(loop, claim, states)
    broken = excess > -torch.inf
    if not bool(broken.any()):
        return found, claim
    worst = torch.where(broken, value, torch.inf).argmin()
    found = find_counterexample(loop, claim, states[worst][None])
    level = float(value[worst])
    if level <= claim.c1:
        # It is the inner level that is broken: no outer one helps.
        return found, Claim(rho=claim.c1 * (1.0 + 1e-6), kappa=claim.kappa, c1=claim.c1)
    return found, Claim(rho=max(level, claim.c1 * (1.0 + 1e-6)), kappa=claim.kappa, c1=claim.c1)
