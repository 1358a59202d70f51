"""Samples bound a share, say with which confidence, and are never called a proof."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlstab.analysis.certificates.lyapunov.certify_samples import certify_by_samples, sample_set
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.regions import ellipsoid_volume
from rlstab.analysis.certificates.lyapunov.statistical import clopper_pearson
from rlstab.envs.plants import InvertedPendulum, PlanarQuadrotor
from rlstab.errors import UserError
from rlstab.policies.lyapunov import LinearFeedback, QuadraticLyapunov, discrete_lyapunov, lqr


def _pendulum() -> ClosedLoop:
    feedback = lqr(InvertedPendulum(), control_weight=10.0)[0]
    return ClosedLoop(InvertedPendulum(), feedback, discrete_lyapunov(InvertedPendulum(), feedback))


def test_samples_fill_the_set_evenly() -> None:
    loop, rho = _pendulum(), 100.0
    drawn = sample_set(loop, rho, 20_000, seed=0)
    assert len(drawn.states) == 20_000
    assert bool((loop.value(drawn.states) <= rho).all())
    # Of an ellipse within the box, half the area is within half the level.
    assert float((loop.value(drawn.states) <= 0.5 * rho).double().mean()) == pytest.approx(0.5, abs=0.02)
    volume = len(drawn.states) / drawn.tried * drawn.volume
    assert isinstance(loop.lyapunov, QuadraticLyapunov)
    assert volume == pytest.approx(ellipsoid_volume(loop.lyapunov.matrix, rho), rel=0.03)


def test_six_states_get_a_statement_about_a_share_of_the_set() -> None:
    plant = PlanarQuadrotor()
    loop = ClosedLoop(plant, *lqr(plant, control_weight=10.0), single_precision=True)
    report = certify_by_samples(loop, 20_000)
    found = report.certificate
    assert report.status == "unknown"
    assert found is not None
    assert found.grade == "statistical"
    assert not found.is_proof
    assert not found.converges
    assert found.violation_bound is not None
    assert clopper_pearson(0, 20_000) <= found.violation_bound < 0.01
    assert found.samples == 20_000
    assert "of 20000 samples broke it" in found.statement
    assert 0.0 < found.volume[0] < found.volume[1]
    found.require(loop)


def test_the_level_is_near_the_one_that_is_proved() -> None:
    found = certify_by_samples(_pendulum(), 20_000).certificate
    assert found is not None
    assert found.volume[1] == pytest.approx(73.05, rel=0.1)


def test_a_loop_that_diverges_is_refuted() -> None:
    loop = ClosedLoop(InvertedPendulum(), LinearFeedback([[-5.0, 0.0]], (0.0,)), QuadraticLyapunov(np.eye(2)))
    report = certify_by_samples(loop, 2000)
    assert report.status == "refuted"
    assert report.certificate is None
    assert report.counterexample is not None
    state = torch.as_tensor(report.counterexample)
    assert float(loop.value(loop.step(state))) > 0.999 * float(loop.value(state))


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(UserError, match="100 samples say next to nothing"):
        certify_by_samples(_pendulum(), 100)


def test_a_confidence_that_samples_cannot_give_is_refused() -> None:
    with pytest.raises(UserError, match=r"2000 samples and a delta of 1e-300 .* says nothing"):
        certify_by_samples(_pendulum(), 2000, delta=1e-300)
