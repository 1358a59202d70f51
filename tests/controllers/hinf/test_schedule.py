from __future__ import annotations

import dataclasses

import pytest

from rlstab.controllers.hinf.game_config import GameConfig
from rlstab.controllers.hinf.schedule import Dual, force_limit

CONFIG = GameConfig(multiplier_rate=0.1, multiplier_max=2.0, eta_every=3, eta_rate=0.9, eta_min=0.5)


def test_slack_lowers_the_multiplier_and_a_violation_raises_it() -> None:
    dual = Dual(1.0, 1.0)
    assert dual.step(CONFIG, cost=1.0, intensity=3.0, scale=2.0) == pytest.approx(1.0)
    assert dual.multiplier == pytest.approx(0.9)
    assert dual.step(CONFIG, cost=3.0, intensity=1.0, scale=2.0) == pytest.approx(-1.0)
    assert dual.multiplier == pytest.approx(1.0)


def test_the_multiplier_keeps_its_limits() -> None:
    dual = Dual(1.0, 1.0)
    for _ in range(50):
        dual.step(CONFIG, cost=0.0, intensity=1.0, scale=1.0)
    assert dual.multiplier == 0.0
    dual = Dual(1.0, 1.0)
    for _ in range(50):
        dual.step(dataclasses.replace(CONFIG, eta_rate=1.0), cost=10.0, intensity=1.0, scale=1.0)
    assert dual.multiplier == 2.0


def test_eta_shrinks_with_slack_to_its_smallest_value() -> None:
    dual = Dual(0.0, 1.0)
    for _ in range(3):
        dual.step(CONFIG, cost=0.0, intensity=1.0, scale=1.0)
    assert dual.eta == pytest.approx(0.9)
    for _ in range(300):
        dual.step(CONFIG, cost=0.0, intensity=1.0, scale=1.0)
    assert dual.eta == 0.5


def test_eta_grows_when_the_multiplier_can_grow_no_more() -> None:
    dual = Dual(2.0, 1.0)
    for _ in range(3):
        dual.step(CONFIG, cost=5.0, intensity=1.0, scale=1.0)
    assert dual.eta == pytest.approx(1.1)


def test_the_ratio_is_that_of_running_means_and_needs_a_force() -> None:
    dual = Dual(1.0, 1.0)
    dual.step(CONFIG, cost=1.0, intensity=0.0, scale=1.0)
    assert dual.ratio is None
    for _ in range(200):
        dual.step(CONFIG, cost=2.0, intensity=1.0, scale=1.0)
        dual.step(CONFIG, cost=4.0, intensity=1.0, scale=1.0)
    assert dual.ratio == pytest.approx(3.0, abs=0.06)
    again = Dual(0.0, 0.0)
    again.load_state_dict(dual.state_dict())
    assert again == dual


def test_noise_at_small_forces_does_not_decide_the_ratio() -> None:
    dual = Dual(1.0, None)
    for _ in range(20):
        dual.step(CONFIG, cost=-0.1, intensity=1e-9, scale=1.0)
    for _ in range(40):
        dual.step(CONFIG, cost=0.4, intensity=0.02, scale=1.0)
    assert dual.ratio == pytest.approx(20.0, rel=0.05)


def test_an_eta_that_is_measured_begins_at_the_ratio() -> None:
    dual = Dual(1.0, None)
    assert dual.step(CONFIG, cost=3.0, intensity=1.0, scale=1.0) == 0.0
    assert dual.multiplier == 1.0
    dual.begin(least=0.1)
    assert dual.eta == pytest.approx(3.0)
    dual.begin(least=50.0)
    assert dual.eta == pytest.approx(3.0)
    costless = Dual(1.0, None)
    costless.step(CONFIG, cost=-1.0, intensity=1.0, scale=1.0)
    costless.begin(least=0.1)
    assert costless.eta == 0.1


def test_eta_never_grows_beyond_what_was_measured() -> None:
    config = dataclasses.replace(CONFIG, multiplier_rate=0.0, multiplier_max=1.0)
    dual = Dual(1.0, 1.0)
    for _ in range(300):
        dual.step(config, cost=2.0, intensity=1.0, scale=1.0)
    assert dual.eta == pytest.approx(2.0, rel=1e-6)


def test_the_force_waits_and_grows() -> None:
    config = GameConfig(warmup=0.2, ramp=0.4)
    assert [force_limit(config, done) for done in (0.0, 0.19, 0.2, 0.4, 0.6, 1.0)] == pytest.approx(
        [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
    )
    assert force_limit(GameConfig(warmup=0.0, ramp=0.0), 0.0) == 1.0
