"""What samples prove about a set, and with which probability they mislead.

Every bound is for independent samples that were drawn after the set was fixed. A level that was chosen by looking at
samples has to be tested on new ones, or to pay with `scenario_samples`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta, binom

from rlstab.errors import UserError


def clopper_pearson(violations: int, samples: int, delta: float = 1e-3) -> float:
    """Exact upper bound on a probability, wrong with probability at most ``delta``.

    Parameters
    ----------
    violations, samples
        Seen, out of how many independent samples.
    delta
        Between 0 and 1.

    References
    ----------
    Clopper, Pearson (1934). The use of confidence or fiducial limits illustrated in the case of the binomial.

    Examples
    --------
    >>> f"{clopper_pearson(0, 10_000):.5e}"
    '6.90537e-04'
    """
    _check_counts(violations, samples, delta)
    if violations == samples:
        return 1.0
    return float(beta.ppf(1.0 - delta, violations + 1, samples - violations))


def require_informative(bound: float, samples: int, delta: float) -> None:
    """Refuse a bound of the share that fails which says nothing.

    Raises
    ------
    UserError
        It is a half or more.
    """
    if not bound < 0.5:
        raise UserError(
            f"{samples} samples and a delta of {delta:g} bound the share that fails by {bound:.3g}, "
            "which says nothing: give more samples or a larger delta"
        )


def clopper_pearson_interval(successes: int, samples: int, delta: float = 1e-3) -> tuple[float, float]:
    """Exact two-sided interval of a probability, each side wrong with probability at most ``delta / 2``."""
    high = clopper_pearson(successes, samples, delta / 2)
    return 1.0 - clopper_pearson(samples - successes, samples, delta / 2), high


def hoeffding(violations: int, samples: int, delta: float = 1e-3) -> float:
    """Upper bound on a probability that knows only the range; for comparison, never better than the exact one.

    References
    ----------
    Hoeffding (1963). Probability inequalities for sums of bounded random variables.
    """
    _check_counts(violations, samples, delta)
    return min(1.0, violations / samples + math.sqrt(-math.log(delta) / (2 * samples)))


def scenario_samples(epsilon: float, variables: int, confidence: float = 1e-6) -> int:
    """How many samples a level found by convex minimisation must hold for, to be violated by at most ``epsilon``.

    Parameters
    ----------
    epsilon
        Probability of a violation that is allowed.
    variables
        Decision variables; 1 for a level.
    confidence
        ``beta``: probability that the samples mislead.

    Returns
    -------
    int
        Smallest ``N`` with ``sum_{i<d} C(N, i) eps^i (1 - eps)^(N - i) <= beta``.

    References
    ----------
    Campi, Garatti (2008). The exact feasibility of randomized solutions of uncertain convex programs. SIAM J. Optim.
    """
    if not 0.0 < epsilon < 1.0 or not 0.0 < confidence < 1.0:
        raise UserError(f"epsilon and confidence must be between 0 and 1, got {epsilon} and {confidence}")
    if variables < 1:
        raise UserError(f"variables must be 1 or more, got {variables}")
    low, high = variables - 1, variables
    while binom.cdf(variables - 1, high, epsilon) > confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binom.cdf(variables - 1, middle, epsilon) > confidence else (low, middle)
    return high


def conformal_margin(estimates: ArrayLike, truths: ArrayLike, delta: float = 0.1) -> float:
    """What to take off an estimated level so that it is at most the true one with probability ``1 - delta``.

    Split conformal prediction with the score ``estimate - truth``, on configurations that were not trained on. The
    probability is over the calibration set and a new configuration together, which must be exchangeable.

    Parameters
    ----------
    estimates, truths
        ``(n,)``: levels of ``n`` held-out configurations, estimated and measured.
    delta
        Between 0 and 1.

    Returns
    -------
    float
        The ``ceil((n + 1)(1 - delta))``-th smallest score.

    Raises
    ------
    UserError
        Shapes do not fit, or there are too few configurations for this ``delta``.

    References
    ----------
    Vovk, Gammerman, Shafer (2005). Algorithmic learning in a random world. Angelopoulos, Bates (2021). A gentle
    introduction to conformal prediction. arXiv:2107.07511.
    """
    scores = np.asarray(estimates, np.float64) - np.asarray(truths, np.float64)
    if np.shape(estimates) != np.shape(truths) or scores.ndim != 1 or not np.isfinite(scores).all():
        raise UserError("estimates and truths must be finite and of one shape (n,)")
    if not 0.0 < delta < 1.0:
        raise UserError(f"delta must be between 0 and 1, got {delta}")
    # Rounded first: 10 * 0.9 is a little more than 9 in floating point, and would cost a rank.
    rank = math.ceil(round((len(scores) + 1) * (1.0 - delta), 9))
    if rank > len(scores):
        needed = math.ceil(round(1.0 / delta, 9)) - 1
        raise UserError(f"a margin for delta={delta:g} needs at least {needed} configurations, got {len(scores)}")
    return float(np.sort(scores)[rank - 1])


def _check_counts(violations: int, samples: int, delta: float) -> None:
    if samples < 1 or not 0 <= violations <= samples:
        raise UserError(f"violations must be between 0 and the number of samples, got {violations} of {samples}")
    if not 0.0 < delta < 1.0:
        raise UserError(f"delta must be between 0 and 1, got {delta}")
