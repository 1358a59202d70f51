"""Gains are certified just above their exact value, and never below it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlstab.analysis.certificates.bounded_real import GainCertificate, certify_gain, proves
from rlstab.analysis.robustness import linear
from rlstab.analysis.robustness.linear import Loop
from rlstab.envs.linear.systems import SYSTEMS
from rlstab.errors import UserError


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_a_regulated_system_is_certified_above_its_norm_and_not_below(name: str, tmp_path) -> None:
    system = SYSTEMS[name]()
    loop = linear.close(system, linear.lqr(system))
    norm = linear.h_infinity_norm(loop)[0]
    certificate = certify_gain(loop, 1.001 * norm)
    assert certificate is not None
    assert certificate.grade == "sound"
    assert certify_gain(loop, 0.999 * norm) is None
    again = GainCertificate.load(certificate.save(tmp_path / "gain"))
    assert proves(loop, again.level, again.storage)


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_the_storage_function_bounds_every_step(name: str) -> None:
    system = SYSTEMS[name]()
    loop = linear.close(system, linear.lqr(system))
    certificate = certify_gain(loop, 1.05 * linear.h_infinity_norm(loop)[0])
    assert certificate is not None
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, w = rng.standard_normal(len(loop.a)), rng.standard_normal(loop.b.shape[1]) * 10 ** rng.uniform(-3, 3)
        after = loop.a @ x + loop.b @ w
        stored = after @ certificate.storage @ after - x @ certificate.storage @ x
        assert stored <= certificate.level**2 * (w @ w) - (loop.c @ x) @ (loop.c @ x)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 4), k=st.integers(1, 2), factor=st.floats(0.3, 3.0))
def test_nothing_is_certified_that_is_not_so(seed: int, n: int, k: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, n))
    a *= rng.uniform(0.5, 0.95) / np.abs(np.linalg.eigvals(a)).max()
    loop = Loop(a, rng.standard_normal((n, k)), rng.standard_normal((2, n)))
    norm = linear.h_infinity_norm(loop)[0]
    certificate = certify_gain(loop, factor * norm)
    if certificate is not None:
        assert certificate.level >= norm
    else:
        assert factor < 1.01


def test_an_unstable_loop_is_never_certified() -> None:
    eye = np.eye(1)
    for radius in (1.0, 1.0001, 1.5):
        assert certify_gain(Loop(radius * eye, eye, eye), 1e6) is None
    assert not proves(Loop(1.5 * eye, eye, eye), 10.0, -eye)


def test_the_check_is_exact() -> None:
    """For ``x' = w``, ``z = x``, ``P = 1`` proves nothing at level one, where only equality holds."""
    eye = np.eye(1)
    loop = Loop(0.0 * eye, eye, eye)
    assert not proves(loop, 1.0, eye)
    assert not proves(loop, 1.0, np.nextafter(1.0, 2.0) * eye)
    assert proves(loop, np.nextafter(1.0, 2.0), np.array([[np.nextafter(1.0, 2.0)]]))
    assert not proves(loop, 2.0, np.array([[np.nan]]))


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="positive and finite"):
        certify_gain(Loop(np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1))), 0.0)
