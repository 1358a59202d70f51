from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.analysis.certificates.lyapunov.switched import SwitchedCertificate, _scaled, verify_switched
from rlstab.envs.hybrid.switched_linear import FAST_FIRST, SLOW_FIRST, SwitchedLinear
from rlstab.errors import UserError

PRODUCT = np.array([[0.0, 1.0], [1.0, 0.0]])


def test_two_stable_modes_that_are_unstable_together_are_refuted():
    for mode in (SLOW_FIRST, FAST_FIRST):
        assert np.linalg.eigvals(mode).real.max() < 0.0
    found = verify_switched([SLOW_FIRST, FAST_FIRST], PRODUCT)
    period = 2.0 * np.pi / np.sqrt(10.0)
    assert (found.status, found.certificate) == ("refuted", None)
    assert found.growth == pytest.approx(100.0 * np.exp(-0.1 * period), rel=1e-9)
    assert found.period_s == pytest.approx(period, rel=1e-9)


def test_the_same_modes_exchanged_are_proved():
    found = verify_switched([FAST_FIRST, SLOW_FIRST], PRODUCT)
    assert found.status == "proved"
    assert found.growth == pytest.approx(0.01 * np.exp(-0.2 * np.pi / np.sqrt(10.0)), rel=1e-9)
    assert found.certificate is not None
    assert found.certificate.is_proof


def test_the_proved_function_is_continuous_and_falls_along_trajectories():
    certificate = verify_switched([FAST_FIRST, SLOW_FIRST], PRODUCT).certificate
    assert certificate is not None
    for axis in np.eye(2):
        assert certificate.value(axis) == pytest.approx(axis @ certificate.p1 @ axis)
    system = SwitchedLinear(stable=True)
    rng = np.random.default_rng(0)
    state = system.start(rng.normal(size=(50, 2)))
    values = []
    for _ in range(100):
        values.append(certificate.value(state.x))
        state = system.advance(state, np.zeros((50, 2)), 0.02).state
    assert (np.diff(values, axis=0) < 0.0).all()
    assert (np.array(values) > 0.0).all()


@given(st.floats(0.0, 2.0 * np.pi), st.floats(0.2, 5.0))
@settings(max_examples=5)
def test_the_answer_does_not_depend_on_the_coordinates(angle, stretch):
    cosine, sine = np.cos(angle), np.sin(angle)
    basis = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([1.0, stretch])
    inverse = np.linalg.inv(basis)
    modes = [basis @ mode @ inverse for mode in (FAST_FIRST, SLOW_FIRST)]
    form = inverse.T @ PRODUCT @ inverse
    form = 0.5 * (form + form.T)
    assert verify_switched(modes, form).status == "proved"
    assert verify_switched(modes[::-1], form).status == "refuted"


def test_an_unstable_mode_is_never_proved():
    unstable = FAST_FIRST + 0.2 * np.eye(2)
    assert verify_switched([unstable, unstable], PRODUCT).status == "refuted"


def test_a_revolution_that_keeps_the_norm_is_not_proved():
    turning = np.array([[0.0, 1.0], [-1.0, 0.0]])
    found = verify_switched([turning, turning], PRODUCT)
    assert found.growth == pytest.approx(1.0)
    assert found.status != "proved"


def test_sliding_is_refused():
    with pytest.raises(UserError, match="slide along the boundary"):
        verify_switched([SLOW_FIRST, -SLOW_FIRST], PRODUCT)


@pytest.mark.parametrize(
    ("modes", "form", "told"),
    [
        (np.zeros((2, 2, 2)), np.eye(2), "indefinite"),
        (np.zeros((3, 2, 2)), PRODUCT, "two modes"),
        (np.full((2, 2, 2), np.nan), PRODUCT, "finite"),
    ],
)
def test_what_is_no_such_system_is_refused(modes, form, told):
    with pytest.raises(UserError, match=told):
        verify_switched(modes, form)


@given(st.floats(1e-3, 1e3))
@settings(max_examples=5, deadline=None)
def test_the_boundary_is_scaled_without_rounding(scale):
    form = scale * np.array([[0.1, 0.7], [0.7, -0.3]])
    scaled = _scaled(form)
    assert scaled is not None
    assert 1.0 <= np.abs(scaled).max() < 2.0
    ratios = {Fraction(float(a)) / Fraction(float(b)) for a, b in zip(scaled.flat, form.flat, strict=True)}
    assert len(ratios) == 1
    # What would be rounded is not proved.
    assert _scaled(np.array([[1e300, 0.0], [0.0, -5e-324]])) is None


def test_a_certificate_is_about_its_modes_and_boundary_alone():
    modes = [FAST_FIRST, SLOW_FIRST]
    certificate = verify_switched(modes, PRODUCT).certificate
    assert certificate is not None
    certificate.require(modes, PRODUCT)
    with pytest.raises(UserError, match="other modes"):
        certificate.require(modes[::-1], PRODUCT)
    with pytest.raises(UserError, match="another boundary"):
        certificate.require(modes, -PRODUCT)
    for changes in (
        {"p1": -certificate.p1},
        {"jump": np.inf},
        {"multipliers": -certificate.multipliers - 1.0},
        {"boundary": np.eye(2)},
        {"grade": "statistical"},
        {"statement": "all is well"},
    ):
        with pytest.raises(UserError, match="this certificate"):
            dataclasses.replace(certificate, **changes).require(modes, PRODUCT)


def test_it_is_saved_and_drawn(tmp_path):
    certificate = verify_switched([FAST_FIRST, SLOW_FIRST], PRODUCT).certificate
    assert certificate is not None
    loaded = SwitchedCertificate.load(certificate.save(tmp_path / "switched.json"))
    assert loaded.value([1.0, -2.0]) == certificate.value([1.0, -2.0])
    assert loaded.plot().get_xlabel() == "x1"
