"""A budget buys the largest level that is proved in it, rounding included; a function that lies buys none."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch

from rlstab.analysis.certificates.lyapunov.bounds import AffineBounds
from rlstab.analysis.certificates.lyapunov.certify import certify_largest
from rlstab.analysis.certificates.lyapunov.loop import SINGLE, ClosedLoop
from rlstab.analysis.certificates.lyapunov.slopes import SlopeBounds
from rlstab.envs.plants import InvertedPendulum, PathTracking
from rlstab.errors import UserError
from rlstab.policies.lyapunov import NetworkFeedback, QuadraticLyapunov, discrete_lyapunov, linearise, lqr


def _loop(control_weight: float = 10.0, single: bool = True) -> ClosedLoop:
    plant = PathTracking()
    feedback = lqr(plant, control_weight=control_weight)[0]
    return ClosedLoop(plant, feedback, discrete_lyapunov(plant, feedback), single_precision=single)


def test_a_regulator_with_a_quadratic_form_reaches_the_published_area() -> None:
    report = certify_largest(_loop(), seconds=15.0)
    assert report.status == "proved"
    proof = report.certificate
    assert proof is not None
    assert proof.is_proof
    assert proof.single_precision
    assert proof.converges
    # 15.40 in the literature, where the set is an ellipse cut off by the box.
    assert proof.volume[0] > 15.2
    assert proof.inner_volume[1] < 0.01 * proof.volume[0]
    # What ends it is known.
    assert report.counterexample is not None
    assert report.values is not None
    assert report.values[0] > proof.rho
    proof.require(_loop())
    with pytest.raises(UserError, match="in single precision, not in double"):
        proof.require(_loop(single=False))


def test_trajectories_of_the_set_stay_and_converge() -> None:
    loop = _loop()
    proof = certify_largest(loop, seconds=10.0).certificate
    assert proof is not None
    states = loop.sample(20_000, seed=3)
    states = states[loop.value(states) <= proof.rho]
    before = loop.value(states)
    for _ in range(400):
        states = loop.step(states)
        assert bool(loop.inside(states).all())
        after = loop.value(states)
        assert bool((after <= torch.maximum((1.0 - proof.kappa) * before, torch.tensor(proof.c1))).all())
        before = after
    assert float(states.abs().max()) < 1e-3


def test_a_tampered_function_is_refuted() -> None:
    plant = InvertedPendulum()
    feedback = lqr(plant)[0]
    # An ellipse that is long across the flow: V rises where the true one falls.
    lie = QuadraticLyapunov(np.array([[1.0, -0.9], [-0.9, 1.0]]))
    report = certify_largest(ClosedLoop(plant, feedback, lie, single_precision=True), seconds=5.0)
    assert report.status == "refuted"
    assert report.certificate is None
    state = torch.as_tensor(report.counterexample)
    loop = ClosedLoop(plant, feedback, lie, single_precision=True)
    assert float(loop.value(loop.step(state))) > 0.999 * float(loop.value(state))


def test_the_budget_is_kept_and_too_small_ones_are_refused() -> None:
    start = time.perf_counter()
    certify_largest(_loop(), seconds=2.0)
    assert time.perf_counter() - start < 6.0
    with pytest.raises(UserError, match="too small to prove anything"):
        certify_largest(_loop(), seconds=0.1)


def test_single_precision_is_within_its_bounds() -> None:
    torch.manual_seed(0)
    plant = PathTracking()
    controller = NetworkFeedback(2, plant.equilibrium_control)
    loop = ClosedLoop(plant, controller, QuadraticLyapunov(np.eye(2)), single_precision=True)
    exact = ClosedLoop(plant, controller, QuadraticLyapunov(np.eye(2)))
    states = loop.sample(4000, seed=0)
    rounded = loop.step(states)
    assert not torch.equal(rounded, exact.step(states))
    bounds = loop.step(AffineBounds.of_boxes(states, states))
    assert bool((rounded >= bounds.low.T).all())
    assert bool((rounded <= bounds.high.T).all())
    # Not by much more than rounding: two errors of half a unit in the last place, through slopes of a few units.
    assert float((bounds.high - bounds.low).max()) < 100.0 * SINGLE


def test_single_precision_is_within_its_slopes_from_zero() -> None:
    plant = PathTracking()
    a, b = linearise(plant)
    feedback = lqr(plant)[0]
    loop = ClosedLoop(plant, feedback, QuadraticLyapunov(np.eye(2)), single_precision=True)
    side = torch.full((1, 2), 1e-4, dtype=torch.float64)
    low, high = (ends[0].numpy() for ends in loop.step(SlopeBounds.of_boxes(-side, side)).jacobian())
    closed = a - b @ feedback.gain.numpy()
    assert (low <= closed).all()
    assert (closed <= high).all()
    offset = loop.step(torch.zeros(1, 2, dtype=torch.float64))[0].numpy()
    states = (2.0 * torch.rand(2000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1.0) * side
    moved = loop.step(states).numpy() - offset
    middle, radius = 0.5 * (low + high), 0.5 * (high - low)
    slack = radius @ np.abs(states.numpy().T) + SINGLE * 0.1 * 2.0 * math.sqrt(2.0) * plant.dt * 2.0
    assert (np.abs(moved.T - middle @ states.numpy().T) <= slack).all()
