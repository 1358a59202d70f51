"""A certificate says what was found, survives a disk, and is refused for anything else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from rlstab.analysis.certificates.lyapunov.certify import certify_region
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.region_certificate import (
    RegionCertificate,
    RegionReport,
)
from rlstab.analysis.certificates.lyapunov.verifier import Budget, Claim
from rlstab.envs.plants import InvertedPendulum, PathTracking, Plant
from rlstab.errors import UserError
from rlstab.policies.lyapunov import LinearFeedback, LyapunovNetwork, QuadraticLyapunov, discrete_lyapunov, lqr


def _loop(plant: Plant, weight: float = 10.0) -> ClosedLoop:
    feedback = lqr(plant, control_weight=weight)[0]
    return ClosedLoop(plant, feedback, discrete_lyapunov(plant, feedback))


@pytest.fixture(scope="module")
def proof() -> RegionCertificate:
    report = certify_region(_loop(InvertedPendulum()), Claim(rho=135.0, c1=1.0))
    assert report.status == "proved"
    assert report.certificate is not None
    return report.certificate


def test_a_proof_is_sound_and_gives_its_numbers(proof: RegionCertificate, tmp_path) -> None:
    assert proof.is_proof
    assert proof.converges
    assert proof.contraction is not None
    assert 0.0 < proof.contraction < 1.0
    assert "converge to 0" in proof.statement
    assert proof.volume[0] == pytest.approx(73.05, rel=3e-3)
    assert proof.inner_volume[1] == pytest.approx(0.541, rel=1e-2)
    again = RegionCertificate.load(proof.save(tmp_path / "proof"))
    again.require(_loop(InvertedPendulum()))
    assert again.summary() == proof.summary()
    proof.plot()


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        (lambda: _loop(PathTracking()), "for inverted-pendulum, not for path-tracking"),
        (lambda: _loop(InvertedPendulum(mass=0.2)), "for mass=0.15, not for mass=0.2"),
        (lambda: _loop(InvertedPendulum(control_low=(-0.75,))), "for control_low/0=-6"),
        (lambda: ClosedLoop(InvertedPendulum(), *lqr(InvertedPendulum()), box=(1.0, 1.0)), "for the box"),
        (lambda: _loop(InvertedPendulum(), 11.0), "another controller or Lyapunov function"),
    ],
)
def test_a_certificate_is_refused_for_anything_else(proof: RegionCertificate, loop, message: str) -> None:
    with pytest.raises(UserError, match=message):
        proof.require(loop())


def test_a_certificate_that_was_changed_is_refused(proof: RegionCertificate) -> None:
    with pytest.raises(UserError, match="its own hash"):
        dataclasses.replace(proof, rho=200.0).require(_loop(InvertedPendulum()))


@pytest.mark.parametrize(
    "changes",
    [
        {"grade": "statistical"},
        {"statement": "every trajectory from anywhere converges to 0"},
        {"volume": (576.0, 576.0)},
        {"inner_volume": (0.0, 0.0)},
        {"converges": False},
        {"contraction": 0.1},
        {"form": np.eye(2)},
        {"violation_bound": 0.0},
        {"delta": 1e-9},
        {"samples": 10**9},
        {"method": "by hand"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_thing_that_a_certificate_says_is_in_its_hash(proof: RegionCertificate, changes: dict) -> None:
    with pytest.raises(UserError, match="its own hash"):
        dataclasses.replace(proof, **changes).require(_loop(InvertedPendulum()))


def test_a_slope_that_is_no_weight_is_part_of_the_hash() -> None:
    torch.manual_seed(0)
    value = LyapunovNetwork(2)
    first = ClosedLoop(InvertedPendulum(), lqr(InvertedPendulum())[0], value)
    value.eps = 0.02
    second = ClosedLoop(InvertedPendulum(), lqr(InvertedPendulum())[0], value)
    assert first.network_sha256() != second.network_sha256()


def test_a_refuted_claim_has_a_counterexample_and_no_certificate(tmp_path) -> None:
    report = certify_region(_loop(InvertedPendulum()), Claim(rho=900.0, c1=1.0))
    assert report.status == "refuted"
    assert report.certificate is None
    again = RegionReport.load(report.save(tmp_path / "report"))
    assert again.counterexample is not None
    assert np.array_equal(again.counterexample, report.counterexample)
    assert again.values is not None
    assert "counterexample" in again.summary()
    report.plot()


def test_a_proof_that_runs_out_of_time_is_statistical_and_says_so() -> None:
    loop = _loop(PathTracking())
    report = certify_region(loop, Claim(rho=84.0, c1=0.001), Budget(boxes=300), samples=50_000)
    assert report.status == "unknown"
    assert report.open_boxes > 0
    certificate = report.certificate
    assert certificate is not None
    assert certificate.grade == "statistical"
    assert not certificate.is_proof
    assert not certificate.converges
    assert certificate.samples > 0
    assert certificate.violation_bound == pytest.approx(1 - 1e-3 ** (1 / certificate.samples))
    assert "with probability 0.999" in certificate.statement
    certificate.require(loop)
    with pytest.raises(UserError, match="its own hash"):
        dataclasses.replace(certificate, grade="sound", volume=(576.0, 576.0)).require(loop)


def test_too_few_samples_make_no_certificate() -> None:
    report = certify_region(_loop(PathTracking()), Claim(rho=84.0, c1=0.001), Budget(boxes=300), samples=3)
    assert report.status == "unknown"
    assert report.certificate is None


def test_samples_refute_what_bounds_had_no_time_for() -> None:
    loop = _loop(PathTracking())
    claim = Claim(rho=85.6, c1=0.1)
    report = certify_region(loop, claim, Budget(boxes=1), samples=2_000_000)
    assert report.status == "refuted"
    assert report.counterexample is not None


def test_a_hole_is_named_in_the_statement() -> None:
    report = certify_region(_loop(InvertedPendulum()), Claim(rho=100.0, hole=1e-3))
    assert report.certificate is not None
    whole = certify_region(_loop(InvertedPendulum()), Claim(rho=100.0, c1=1.0)).certificate
    assert whole is not None
    # A square with sides of 0.002 times 12.
    assert whole.volume[0] - report.certificate.volume[0] == pytest.approx(0.024**2, rel=1e-3)
    assert "of which nothing is said" in report.certificate.statement
    assert not report.certificate.converges


def test_a_hole_that_holds_the_set_is_refused() -> None:
    loop = ClosedLoop(InvertedPendulum(), LinearFeedback([[0.0, 0.0]], (0.0,)), QuadraticLyapunov(np.eye(2)))
    for hole in (0.1, 0.07, 0.0834):
        with pytest.raises(UserError, match="make it smaller"):
            certify_region(loop, Claim(rho=1.0, hole=hole))
