"""Policies find who certifies them by their kind, and are refused where that would prove something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from gymnasium.spaces import Box

from rlstab.analysis.certificates.certificate import Certificate
from rlstab.analysis.certificates.certifier import Request
from rlstab.analysis.certificates.lyapunov.certifier import LyapunovCertifier
from rlstab.controllers.certifiers import CERTIFIERS, certifier_of
from rlstab.envs.plants import CartPole, PathTracking, PlanarQuadrotor, Plant
from rlstab.errors import UserError
from rlstab.policies.actor_critic import ActorCriticPolicy
from rlstab.policies.loading import KINDS
from rlstab.policies.lyapunov import discrete_lyapunov, lqr
from rlstab.policies.lyapunov_policy import LyapunovPolicy, LyapunovShapes
from rlstab.runs.environment import EnvSettings

PATH = EnvSettings("rlstab/PlantPath-v0")


def _policy(plant: Plant, level: float = 1.0, control_weight: float = 10.0) -> LyapunovPolicy:
    """LQR with its usual quadratic form."""
    spaces = Box(-1.0, 1.0, (plant.state_size,)), Box(-1.0, 1.0, (plant.control_size,))
    policy = LyapunovPolicy(*spaces, plant, LyapunovShapes(None, None))
    feedback, _ = lqr(plant, control_weight=control_weight)
    policy.module.controller.load_state_dict(feedback.state_dict())
    policy.module.lyapunov.load_state_dict(discrete_lyapunov(plant, feedback).state_dict())
    policy.module.level.fill_(level)
    return policy


def test_every_certifier_is_of_a_kind_of_policy() -> None:
    assert set(CERTIFIERS) <= set(KINDS)
    assert isinstance(certifier_of(_policy(PathTracking()), PATH), LyapunovCertifier)


def test_a_report_is_told_drawn_and_required(tmp_path: Path) -> None:
    certifier = certifier_of(_policy(PathTracking()), PATH)
    said: list[str] = []
    report = certifier.certify(Request(seconds=6.0), said.append)
    assert any("inner level" in line for line in said)
    rows = dict(certifier.rows(report))
    assert rows["grade"] == "sound"
    assert "of 36" in str(rows["area"])
    assert "path-tracking, steps of 0.05 s" in str(rows["plant"])
    assert str(rows["convergence to 0"]).startswith("proved")
    drawn = certifier.draw(report, tmp_path / "region.png")
    assert drawn is not None
    assert drawn.stat().st_size > 10_000
    kept = Certificate.load(report.certificate.save(tmp_path / "region"))
    certifier.require(kept)
    with pytest.raises(UserError, match="another controller or Lyapunov function"):
        certifier_of(_policy(PathTracking(), control_weight=11.0), PATH).require(kept)


def test_what_proves_nothing_says_so(tmp_path: Path) -> None:
    # The level sets of the cost for another regulator: V rises along some steps at every level.
    policy = _policy(PathTracking())
    policy.module.controller.gain.mul_(-1.0)
    certifier = certifier_of(policy, PATH)
    report = certifier.certify(Request(seconds=3.0), lambda line: None)
    rows = dict(certifier.rows(report))
    assert rows["grade"] == "none: nothing is claimed"
    assert "breaks the claim" in str(rows["claim"])
    assert any(name.startswith("counterexample") for name in rows)
    assert certifier.draw(report, tmp_path / "none.png") is not None


@pytest.mark.parametrize(
    ("policy", "settings", "message"),
    [
        (_policy(PathTracking(), level=0.0), PATH, "has not been trained"),
        (_policy(PathTracking(speed=3.0)), PATH, "trained for speed=3, rlstab/PlantPath-v0 has speed=2"),
        (_policy(PathTracking()), EnvSettings("rlstab/PlantPathTight-v0"), "control_low/0=-0.84"),
        (_policy(CartPole()), PATH, "trained for cart-pole, rlstab/PlantPath-v0 is path-tracking"),
        (_policy(PathTracking()), EnvSettings("rlstab/SwitchedLinear-v0"), "not one of the plants"),
        (ActorCriticPolicy(Box(-1.0, 1.0, (2,)), Box(-1.0, 1.0, (1,))), PATH, "'actor_critic' has nothing to certify"),
    ],
)
def test_what_cannot_be_certified_is_refused(policy, settings: EnvSettings, message: str) -> None:
    with pytest.raises(UserError, match=message):
        certifier_of(policy, settings)


def test_six_states_are_not_tried() -> None:
    certifier = certifier_of(_policy(PlanarQuadrotor()), EnvSettings("rlstab/PlantQuadrotor2D-v0"))
    with pytest.raises(UserError, match="--statistical 100000"):
        certifier.certify(Request(), lambda line: None)
