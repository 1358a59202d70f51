"""The search aims where proofs succeed: just below what breaks the claim, and above what rounding leaves to prove."""

from __future__ import annotations

import torch

from rlstab.analysis.certificates.lyapunov.level_search import ceiling, choose_inner, search_level
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.verifier import Budget, Claim, verify
from rlstab.envs.plants import InvertedPendulum
from rlstab.policies.lyapunov import LinearFeedback, LyapunovNetwork, discrete_lyapunov, lqr


def _loop() -> ClosedLoop:
    feedback = lqr(InvertedPendulum(), control_weight=10.0)[0]
    return ClosedLoop(InvertedPendulum(), feedback, discrete_lyapunov(InvertedPendulum(), feedback))


def test_the_level_is_the_largest_that_is_proved() -> None:
    loop, top = _loop(), ceiling(_loop())
    c1, _ = choose_inner(loop, 1e-3, top, 10.0)
    found = search_level(loop, 1e-3, c1, top, 20.0)
    assert found.finished
    assert found.counterexample is not None
    assert found.rho <= found.counterexample.value <= 1.01 * found.rho
    proved = verify(loop, Claim(rho=(1.0 - 1e-4) * found.rho, c1=c1), Budget(seconds=20.0))
    assert proved.status == "proved"
    refuted = verify(loop, Claim(rho=1.01 * found.rho, c1=c1), Budget(seconds=20.0))
    assert refuted.status == "refuted"


def test_what_time_allows_is_less_and_still_right() -> None:
    loop, top = _loop(), ceiling(_loop())
    short = search_level(loop, 1e-3, 1.0, top, 1e-3)
    assert not short.finished
    assert short.rho < search_level(loop, 1e-3, 1.0, top, 20.0).rho


def test_the_ceiling_holds_the_box() -> None:
    loop = _loop()
    with torch.no_grad():
        assert float(loop.value(loop.sample(10_000, seed=9)).max()) <= ceiling(loop)


def test_no_inner_level_of_a_loop_that_diverges() -> None:
    feedback = LinearFeedback([[-5.0, 0.0]], (0.0,))
    torch.manual_seed(0)
    loop = ClosedLoop(InvertedPendulum(), feedback, LyapunovNetwork(2))
    c1, broken = choose_inner(loop, 1e-3, ceiling(loop), 1.0)
    assert c1 == 0.0
    assert broken is not None
    found = search_level(loop, 1e-3, 1e-3, ceiling(loop), 1.0)
    assert found.rho <= 1.01e-3
