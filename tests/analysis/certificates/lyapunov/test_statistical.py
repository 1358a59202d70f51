"""Bounds from samples have the digits of their tables, and cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from rlstab.analysis.certificates.lyapunov.statistical import (
    clopper_pearson,
    clopper_pearson_interval,
    conformal_margin,
    hoeffding,
    require_informative,
    scenario_samples,
)
from rlstab.errors import UserError


@pytest.mark.parametrize(
    ("samples", "violations", "exact", "loose"),
    [
        (1000, 0, 0.00688395, 0.05877),
        (10_000, 0, 6.90537e-4, 0.01858),
        (10_000, 3, 0.00130557, 0.01888),
        (100_000, 0, 6.90752e-5, 0.00588),
    ],
)
def test_the_digits_of_the_exact_bound_and_of_the_loose_one(samples, violations, exact, loose) -> None:
    assert clopper_pearson(violations, samples) == pytest.approx(exact, rel=5e-6)
    assert hoeffding(violations, samples) == pytest.approx(loose, abs=6e-6)


@pytest.mark.parametrize(("epsilon", "variables", "expected"), [(0.01, 1, 1375), (0.01, 10, 3260), (0.001, 1, 13_809)])
def test_the_numbers_of_scenarios(epsilon: float, variables: int, expected: int) -> None:
    assert scenario_samples(epsilon, variables) == expected
    assert binom.cdf(variables - 1, expected - 1, epsilon) > 1e-6


def test_the_exact_bound_misses_as_rarely_as_promised() -> None:
    for probability in (0.001, 0.02, 0.3, 0.9):
        counts = np.arange(201)
        missed = [clopper_pearson(int(count), 200, 0.05) < probability for count in counts]
        assert binom.pmf(counts, 200, probability)[missed].sum() <= 0.05


def test_an_interval_holds_the_share_seen() -> None:
    low, high = clopper_pearson_interval(30, 100)
    assert 0.0 < low < 0.3 < high < 1.0
    assert clopper_pearson_interval(0, 100)[0] == 0.0
    assert clopper_pearson_interval(100, 100)[1] == 1.0


def test_a_conformal_margin_covers_new_configurations() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(2000):
        truths = rng.uniform(1, 2, 51)
        estimates = truths + rng.standard_t(3, 51)
        margin = conformal_margin(estimates[:50], truths[:50], 0.1)
        covered.append(estimates[50] - margin <= truths[50])
    assert 0.88 < np.mean(covered) < 0.94


def test_ranks_of_the_margin() -> None:
    scores = np.arange(9.0)
    assert conformal_margin(scores, np.zeros(9), 0.1) == 8.0
    with pytest.raises(UserError, match="at least 9 configurations, got 8"):
        conformal_margin(scores[:8], np.zeros(8), 0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: clopper_pearson(3, 2), "violations must be between"),
        (lambda: clopper_pearson(0, 10, 0.0), "delta must be between"),
        (lambda: hoeffding(0, 0), "violations must be between"),
        (lambda: scenario_samples(0.0, 1), "epsilon and confidence"),
        (lambda: scenario_samples(0.1, 0), "variables must be"),
        (lambda: conformal_margin([1.0], [1.0, 2.0]), "one shape"),
        (lambda: conformal_margin([1.0], [1.0], 2.0), "delta must be between"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_bounds_that_say_nothing_are_refused() -> None:
    require_informative(0.49, 1000, 1e-3)
    for bound in (0.5, 1.0, float("nan")):
        with pytest.raises(UserError, match="which says nothing"):
            require_informative(bound, 1000, 1e-3)
