"""What samples prove about the regions of attraction that were learned, and how tight their levels are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rlstab.analysis.certificates.lyapunov.statistical import clopper_pearson
from rlstab.controllers.roa.walker.data import judge, sample_gaits, sample_states
from rlstab.controllers.roa.walker.value_stage import levels_of, values_of
from rlstab.errors import UserError
from rlstab.policies.roa.walker import WalkerModel

SLACK = 0.01
"""Rise of V that is overlooked: sampling moves the impacts by up to a period."""


@dataclass(frozen=True)
class RegionStatement:
    """A statement about ``{V <= rho}`` under the distribution of states and gaits that planners meet.

    Grade: statistical. Samples are fresh: neither training nor calibration has seen them.
    """

    level: float
    """``rho``: the boundary, 1, less the margin."""
    samples: int
    """Pairs of state and gait inside."""
    acceptance: float
    """Share of all pairs that are inside."""
    recall: float
    """Share of those that stay in their gait that are inside."""
    failures: int
    """Inside, but did not do all steps, or did not arrive."""
    failure_bound: float
    """Probability of that at most, by Clopper and Pearson."""
    rises: int
    """Inside, but V rose before the first impact, or fell by less than `alpha` in one of the next steps."""
    rise_bound: float
    alpha: float
    delta: float
    """Probability with which each bound may be wrong."""
    covered: float
    """Share of fresh gaits whose measured level is at least ``rho``."""
    calibration: float
    """Share that calibration promises."""
    measured: tuple[float, float, float]
    """10 %, 50 % and 90 % quantile of the measured levels."""


def state_regions(
    model: WalkerModel,
    rng: np.random.Generator,
    *,
    samples: int,
    alpha: float,
    calibration: float,
    delta: float = 1e-3,
    gaits: int = 60,
    starts: int = 400,
) -> RegionStatement:
    """Draw pairs of state and gait until ``samples`` are inside, and let them walk.

    Parameters
    ----------
    model
        What is judged.
    rng
        Of the samples: its seed must not be one of training.
    samples
        Pairs inside.
    alpha
        Share of ``V`` that a step should take away.
    calibration
        ``delta`` of the calibration of levels.
    delta
        Probability with which each bound may be wrong.
    gaits, starts
        Gaits whose level is measured, and states in which each is begun.

    Raises
    ------
    UserError
        Almost nothing is inside.
    """
    level = float(model.level(torch.zeros(1, 1, device=model.units.device))[0])
    inside = failures = rises = drawn = stay = 0
    while inside < samples:
        pairs = judge(sample_states(rng, 4000), sample_gaits(rng, 4000))
        values = values_of(model, pairs)
        rows = np.flatnonzero(values <= level)[: samples - inside]
        # What lies beyond the last row that is used was not asked for.
        end = len(values) if len(rows) + inside < samples else int(rows[-1]) + 1
        drawn, stay, inside = drawn + end, stay + int(pairs.stable[:end].sum()), inside + len(rows)
        if inside < 1e-3 * drawn:
            raise UserError(f"only {inside} of {drawn} samples are inside the level {level:.3g}: train for longer")
        failures += int((~pairs.stable[rows]).sum())
        along = [values[rows]]
        for later in pairs.later:
            here = type(pairs)(np.nan_to_num(later[rows]), pairs.gait[rows], pairs.stable[rows], later[:0])
            along.append(np.where(np.isfinite(later[rows, 0]), values_of(model, here), np.inf))
        kept = [1.0] + [1.0 - alpha] * (len(along) - 2)
        rose = [after > share * before + SLACK for before, after, share in zip(along, along[1:], kept, strict=False)]
        rises += int(np.any(rose, 0).sum())
    measured = levels_of(model, rng, sample_gaits(rng, gaits), starts)
    low, middle, high = (float(value) for value in np.quantile(measured, (0.1, 0.5, 0.9)))
    return RegionStatement(
        level=level,
        samples=samples,
        acceptance=inside / drawn,
        recall=(inside - failures) / max(stay, 1),
        failures=failures,
        failure_bound=clopper_pearson(failures, samples, delta),
        rises=rises,
        rise_bound=clopper_pearson(rises, samples, delta),
        alpha=alpha,
        delta=delta,
        covered=float((measured >= level).mean()),
        calibration=1.0 - calibration,
        measured=(low, middle, high),
    )
