from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.analysis.certificates.lyapunov.guards import verify_switch
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.verifier import Budget
from rlstab.envs.plants import InvertedPendulum
from rlstab.errors import UserError
from rlstab.policies.lyapunov import LinearFeedback, QuadraticLyapunov

FACET = [[0.5, 0.5], [-2.0, 2.0]]


def loop(scale: float = 1.0) -> ClosedLoop:
    """Its set of level ``rho`` is a disc of radius ``sqrt(rho / scale)``."""
    return ClosedLoop(InvertedPendulum(), LinearFeedback([[1.0, 1.0]], [0.0]), QuadraticLyapunov(scale * np.eye(2)))


def shifted(by: float):
    """The reference jumps along the first state."""
    return lambda x: x - torch.tensor([by, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("by", [0.5, 1.0])
def test_a_planted_threshold_is_found(by):
    # On the facet x1 = 0.5 the first set has x2^2 <= 1 - 0.25; after the jump that is the largest |x|^2.
    threshold = (0.5 - by) ** 2 + 0.75
    for factor, status in ((1.001, "proved"), (0.999, "refuted")):
        found = verify_switch(
            loop(), loop(), shifted(by), FACET, rho_before=1.0, rho_after=factor * threshold, budget=Budget(seconds=20)
        )
        assert found.status == status
    assert found.counterexample is not None
    assert found.counterexample.next_state[0] == pytest.approx(0.5 - by)


@given(st.floats(-1.0, 1.0), st.floats(0.3, 3.0), st.floats(0.3, 3.0))
@settings(max_examples=15)
def test_no_sample_contradicts_a_proof_and_every_counterexample_is_one(by, scale, rho):
    before, after = loop(scale), loop()
    found = verify_switch(before, after, shifted(by), FACET, rho_before=1.0, rho_after=rho, budget=Budget(seconds=20))
    x = torch.stack([torch.full((500,), 0.5), torch.linspace(-2.0, 2.0, 500)], -1).double()
    breaks = (before.value(x) <= 1.0) & (after.value(shifted(by)(x)) > rho * (1.0 + 1e-6))
    assert found.status != "proved" or not bool(breaks.any())
    if found.counterexample is not None:
        assert found.counterexample.value <= 1.0
        assert found.counterexample.next_value > rho


def test_a_facet_that_the_set_does_not_meet_is_proved_at_once():
    found = verify_switch(loop(), loop(), shifted(9.0), [[3.0, 3.0], [-2.0, 2.0]], rho_before=1.0, rho_after=1.0)
    assert found.status == "proved"


def test_a_reset_out_of_the_next_box_is_refuted():
    found = verify_switch(loop(), loop(), shifted(99.0), FACET, rho_before=1.0, rho_after=1e9)
    assert found.counterexample is not None
    assert found.counterexample.reason == "the reset leaves the next mode's box"


def test_without_time_nothing_is_known():
    found = verify_switch(
        loop(), loop(), shifted(0.5), FACET, rho_before=1.0, rho_after=0.7500001, budget=Budget(boxes=3)
    )
    assert found.status == "unknown"
    assert found.open_boxes > 0


@pytest.mark.parametrize(
    ("facet", "levels", "told"),
    [
        ([[0.0, 1.0]], (1.0, 1.0), "2 rows"),
        ([[1.0, 0.0], [0.0, 1.0]], (1.0, 1.0), "lower and an upper end"),
        (FACET, (0.0, 1.0), "levels must be positive"),
    ],
)
def test_bad_input_is_refused(facet, levels, told):
    with pytest.raises(UserError, match=told):
        verify_switch(loop(), loop(), shifted(0.0), facet, rho_before=levels[0], rho_after=levels[1])


def test_bounds_that_overflow_prove_nothing():
    found = verify_switch(
        loop(),
        loop(),
        lambda x: 100.0 * x,
        [[-1e200, 1e200], [-1.0, 1.0]],
        rho_before=1.0,
        rho_after=1.0,
        budget=Budget(seconds=5.0, boxes=5000),
    )
    assert found.status != "proved"


@pytest.mark.parametrize(
    ("reset", "told"),
    [
        (lambda x: x[..., :1], "gave the shape"),
        (lambda x: x.sum(-1), "gave the shape"),
        (lambda x: 0.0, "gave the shape"),
        (lambda x: torch.nn.functional.linear(x, torch.ones(2, 3).double()), "it fails with"),
    ],
)
def test_a_reset_of_another_shape_is_refused(reset, told):
    with pytest.raises(UserError, match=told) as refused:
        verify_switch(loop(), loop(), reset, FACET, rho_before=1.0, rho_after=1.0)
    assert "\n" not in str(refused.value)
