"""Proof that a switch between modes lands inside the next mode's level set: what joins certificates of single modes.

For a facet ``G`` of the state space on which mode ``i`` ends, and a reset ``R`` into mode ``j``::

    x in G, V_i(x) <= rho_i   =>   R(x) in B_j, V_j(R(x)) <= rho_j.

With a certificate of each mode (`rlstab.analysis.certificates.lyapunov.region_certificate`) and this of every switch of
a fixed table, trajectories stay in the union of the sets whatever the order and number of switches (docs/certificates,
T1).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rlstab.analysis.certificates.lyapunov.bounds import AffineBounds
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.verifier import MARGIN, Budget, Counterexample, Verification, split
from rlstab.errors import UserError

Reset = Callable[[Any], Any]
"""From states ``(..., n)``, tensors or bounds, to the next mode's ``(..., n')``."""


def verify_switch(
    before: ClosedLoop,
    after: ClosedLoop,
    reset: Reset,
    facet: ArrayLike,
    *,
    rho_before: float,
    rho_after: float,
    budget: Budget | None = None,
) -> Verification:
    """Decide whether every state that leaves one mode's set through a facet enters the other's.

    Parameters
    ----------
    before, after
        Loops of the two modes; only their ``V`` and boxes enter.
    reset
        Made of operations that `AffineBounds` knows.
    facet
        ``(n, 2)``: lower and upper end of each state; equal ends pin a state to the guard.
    rho_before, rho_after
        Levels of the two sets, positive.
    budget
        Time and boxes; 60 s if not given.

    Returns
    -------
    Verification
        The counterexample's ``next_state`` is what the reset makes of it.

    Raises
    ------
    UserError
        The facet is no box of that many states, a level is not positive, or the reset does not give states of the next
        mode.
    """
    budget = Budget() if budget is None else budget
    ends = torch.as_tensor(np.array(facet, np.float64))
    if ends.shape != (before.plant.state_size, 2) or not bool(
        (ends.isfinite().all(1) & (ends[:, 0] <= ends[:, 1])).all()
    ):
        raise UserError(f"the facet must be {before.plant.state_size} rows of a lower and an upper end, both finite")
    if not (0.0 < rho_before < np.inf and 0.0 < rho_after < np.inf):
        raise UserError(f"levels must be positive and finite, got {rho_before} and {rho_after}")
    _require_shape(reset, before.plant.state_size, after.plant.state_size)
    start, boxes = time.perf_counter(), 0
    low, high = ends[None, :, 0], ends[None, :, 1]
    # Pinned states are never cut.
    width = (high - low)[0]
    scale = torch.where(width > 0.0, width, torch.inf)
    with torch.no_grad():
        while len(low):
            if time.perf_counter() - start > budget.seconds or boxes >= budget.boxes:
                return Verification("unknown", None, boxes, len(low), time.perf_counter() - start)
            cut = max(0, len(low) - budget.batch)
            part_low, part_high = low[cut:], high[cut:]
            boxes += len(part_low)
            undecided = _undecided(before, after, reset, part_low, part_high, rho_before, rho_after)
            part_low, part_high = part_low[undecided], part_high[undecided]
            found = _counterexample(before, after, reset, 0.5 * (part_low + part_high), rho_before, rho_after)
            if found is not None:
                return Verification("refuted", found, boxes, cut + len(part_low), time.perf_counter() - start)
            new_low, new_high = split(part_low, part_high, scale)
            if len(new_low) and not bool(((new_high - new_low) > 1e-13 * scale).any(1).all()):
                return Verification("unknown", None, boxes, cut + len(part_low), time.perf_counter() - start)
            low, high = torch.cat([low[:cut], new_low]), torch.cat([high[:cut], new_high])
    return Verification("proved", None, boxes, 0, time.perf_counter() - start)


def _require_shape(reset: Reset, size: int, next_size: int) -> None:
    needed = f"the reset must make states of {next_size} numbers from states of {size}"
    try:
        found = reset(torch.zeros(2, size, dtype=torch.float64))
    except (RuntimeError, ValueError, IndexError) as error:
        raise UserError(f"{needed}: it fails with {str(error).splitlines()[0] if str(error) else error!r}") from error
    shape = tuple(getattr(found, "shape", ()))
    if shape != (2, next_size):
        raise UserError(f"{needed}: two of them gave the shape {shape}, not {(2, next_size)}")


def _undecided(
    before: ClosedLoop, after: ClosedLoop, reset: Reset, low: Tensor, high: Tensor, rho_before: float, rho_after: float
) -> Tensor:
    state = AffineBounds.of_boxes(low, high)
    # What is not a number, as after an overflow, decides nothing.
    concerned = ~(before.value(state).low > rho_before * (1.0 + MARGIN))
    following = reset(state)
    inside = torch.maximum(following.low.abs(), following.high.abs()) <= (1.0 - 1e-12) * after.half_widths[:, None]
    enters = inside.all(0) & (after.value(following).high <= rho_after * (1.0 - MARGIN))
    return concerned & ~enters


def _counterexample(
    before: ClosedLoop, after: ClosedLoop, reset: Reset, states: Tensor, rho_before: float, rho_after: float
) -> Counterexample | None:
    if not len(states):
        return None
    value, following = before.value(states), reset(states)
    next_value = after.value(following)
    leaves = ~after.inside(following)
    breaks = (value <= rho_before) & (leaves | ~(next_value <= rho_after * (1.0 + MARGIN)))
    if not bool(breaks.any()):
        return None
    worst = int(torch.where(breaks, next_value.nan_to_num(torch.inf), -torch.inf).argmax())
    reason = "the reset leaves the next mode's box" if leaves[worst] else "the reset lands outside the next level set"
    return Counterexample(
        states[worst].numpy(), float(value[worst]), following[worst].numpy(), float(next_value[worst]), reason
    )
