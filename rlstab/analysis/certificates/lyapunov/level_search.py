"""Where to aim a proof: the inner level, and the largest outer one, found in one pass of branch and bound.

Bisection proves from scratch at every level. Instead the undecided box on which ``V`` may be lowest is cut first, so
that at any time every level below that is likely to be provable: bounds did it already, box by box. What comes out only
says which claim to prove; the proof itself is `rlstab.analysis.certificates.lyapunov.verifier.verify`'s.
"""

from __future__ import annotations

import itertools
import time
from typing import NamedTuple

import torch
from torch import Tensor

from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
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
"""Inner levels that samples are asked about, as shares of the outer one."""

_LOWEST = 1e-5
"""Inner level where nothing breaks the claim, as a share of the ceiling."""
_RING_BOXES = 1500
_CLEAN_RINGS = 9
_STEPS_UP = 12
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
    """Find the inner level above which the claim holds farthest.

    Counterexamples are gathered ring by ring, each between a level and half of it. Of the gaps between their levels,
    that with the most volume is chosen that is wide enough, and in it the lowest level that is proved never to be left.

    Parameters
    ----------
    loop
        Plant, controller and Lyapunov function.
    kappa
        Decrease a step.
    top
        Level to begin at; see `ceiling`.
    seconds
        For all of it.

    Returns
    -------
    float, Counterexample or None
        The level, 0 if none was proved; and what broke the last claim.
    """
    until = time.perf_counter() + seconds
    broken, example = _broken_levels(loop, kappa, top, until - 0.4 * seconds)
    with torch.no_grad():
        sampled = loop.value(loop.sample(20_000, seed=3))
    ends = sorted([0.0, *broken, top])
    gaps = [(low, high) for low, high in itertools.pairwise(ends) if high >= 4.0 * max(low, _LOWEST * top)]
    gaps.sort(key=lambda gap: (int((sampled <= gap[1]).sum()), gap[1]), reverse=True)
    for low, high in gaps[:4]:
        c1 = max(1.02 * low, _LOWEST * top)
        for _ in range(_STEPS_UP):
            left = until - time.perf_counter()
            if left <= 0.0 or 2.0 * c1 > high:
                break
            outcome = verify(loop, Claim(rho=min(2.0 * c1, high), kappa=kappa, c1=c1), Budget(seconds=0.3 * left))
            if outcome.status == "proved":
                return c1, example
            example = outcome.counterexample or example
            c1 *= 1.25
    return 0.0, example


def _broken_levels(
    loop: ClosedLoop, kappa: float, top: float, until: float
) -> tuple[list[float], Counterexample | None]:
    """Levels of states that break the claim, ascending, without those hardly above others, and one of the states.

    The first is the level that was looked down to, unless that is the lowest there is.
    """
    found: list[Tensor] = []
    example: Counterexample | None = None
    high, clean, most, failing = top, 0, 0, 0
    # What is further in than so many sound rings has hardly any volume; nor has what is beyond a few that are not.
    while (
        clean < _CLEAN_RINGS
        and not (most >= 3 and failing >= 3)
        and high > 2.0 * _LOWEST * top
        and time.perf_counter() < until
    ):
        claim = Claim(rho=high, kappa=kappa, c1=0.5 * high)
        states = gather_counterexamples(loop, claim, _RING_BOXES)
        clean, failing = (0, failing + 1) if len(states) else (clean + 1, 0)
        most = max(most, clean)
        if len(states):
            value = loop.value(states)
            # Below the ring only its inner level can be broken, which is not asked for here.
            found.append(value[value > claim.c1])
            example = find_counterexample(loop, claim, states)
        high *= 0.5
    values = torch.cat(found).sort().values.tolist() if found else []
    kept: list[float] = []
    for value in values:
        if not kept or value > 1.001 * kept[-1]:
            kept.append(value)
    # Nobody looked further in.
    return [high, *kept] if high > 4.0 * _LOWEST * top else kept, example


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
            kept = ~(least > claim.rho)
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
