"""How much of the exact gain each attack finds, against the table of the H-infinity specification."""

from __future__ import annotations

import numpy as np
import pytest

from rlstab.analysis.robustness import attacks, linear
from rlstab.analysis.robustness.attacks import STANDARD, CrossEntropy, Finding, Impulse, Rectangle, WhiteNoise
from rlstab.envs.linear.systems import SYSTEMS
from rlstab.errors import UserError

STEPS = 200
PUBLISHED = {
    "white noise": {"S1": 0.72, "S2": 0.38, "S3": 0.34},
    "impulse": {"S1": 0.66, "S2": 0.24, "S3": 0.21},
    "rectangular push": {"S1": 0.995, "S2": 0.93, "S3": 0.96},
    "sine sweep": {"S1": 0.999, "S2": 0.986, "S3": 0.990},
    "cross-entropy": {"S1": 1.000, "S2": 0.998, "S3": 1.000},
}


def gains_of(name: str, steps: int = STEPS) -> tuple[attacks.Response, float]:
    """A regulated system's answers, and its exact gain."""
    system = SYSTEMS[name]()
    loop = linear.close(system, linear.lqr(system))
    matrix = linear.response_matrix(loop, steps)

    def response(disturbances: np.ndarray) -> np.ndarray:
        flat = disturbances.reshape(len(disturbances), -1)
        return np.linalg.norm(flat @ matrix.T, axis=1) / np.linalg.norm(flat, axis=1)

    return response, linear.finite_horizon_gain(loop, steps)[0]


@pytest.fixture(scope="module", params=sorted(SYSTEMS))
def found(request: pytest.FixtureRequest) -> tuple[str, dict[str, Finding], float]:
    response, exact = gains_of(request.param)
    rng = np.random.default_rng(0)
    findings = {attack.name: attack.search(response, STEPS, 1, 4.0, rng) for attack in STANDARD}
    return request.param, findings, exact


def test_no_attack_finds_more_than_there_is(found: tuple[str, dict[str, Finding], float]) -> None:
    _, findings, exact = found
    assert all(finding.gain <= exact * (1 + 1e-9) for finding in findings.values())


def test_each_attack_finds_what_it_should(found: tuple[str, dict[str, Finding], float]) -> None:
    name, findings, exact = found
    for attack, shares in PUBLISHED.items():
        assert findings[attack].gain / exact == pytest.approx(shares[name], abs=0.03), attack


def test_the_strongest_finds_nearly_all(found: tuple[str, dict[str, Finding], float]) -> None:
    _, findings, exact = found
    assert max(finding.gain for finding in findings.values()) >= 0.99 * exact


def test_findings_are_what_they_say(found: tuple[str, dict[str, Finding], float]) -> None:
    name, findings, _ = found
    response, _ = gains_of(name)
    for finding in findings.values():
        assert finding.disturbance.shape == (STEPS, 1)
        assert np.square(finding.disturbance).sum() == pytest.approx(4.0)
        assert response(finding.disturbance[None])[0] == pytest.approx(finding.gain)
        assert finding.played >= 100


def test_every_channel_and_sense_is_tried() -> None:
    def response(disturbances: np.ndarray) -> np.ndarray:
        """Answers to pushes on the last channel in the negative sense only, late ones above all."""
        return np.maximum(-disturbances[:, :, 2], 0.0) @ np.arange(30.0)

    for attack in (Impulse(), Rectangle(), CrossEntropy()):
        finding = attack.search(response, 30, 3, 1.0, np.random.default_rng(1))
        assert finding.gain > 20.0, attack.name
    impulse = Impulse().search(response, 30, 3, 1.0, np.random.default_rng(1))
    assert impulse.disturbance[29, 2] == -1.0


def test_a_search_is_the_same_with_the_same_seed() -> None:
    response, _ = gains_of("S2", 50)
    for attack in (WhiteNoise(samples=50), CrossEntropy(iterations=5)):
        first, second = (attack.search(response, 50, 1, 1.0, np.random.default_rng(3)) for _ in range(2))
        np.testing.assert_array_equal(first.disturbance, second.disturbance)


@pytest.mark.parametrize(("steps", "channels", "energy"), [(0, 1, 1.0), (5, 0, 1.0), (5, 1, 0.0), (5, 1, np.inf)])
def test_what_makes_no_disturbance_is_refused(steps: int, channels: int, energy: float) -> None:
    for attack in (WhiteNoise(), CrossEntropy()):
        with pytest.raises(UserError, match=r"a disturbance needs|the energy of a disturbance"):
            attack.search(lambda w: np.zeros(len(w)), steps, channels, energy, np.random.default_rng(0))
