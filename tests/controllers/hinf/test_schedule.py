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


def test_the_ratio_is_a_running_mean_and_needs_a_force() -> None:
    dual = Dual(1.0, 1.0)
    dual.step(CONFIG, cost=1.0, intensity=0.0, scale=1.0)
    assert dual.ratio is None
    dual.step(CONFIG, cost=2.0, intensity=1.0, scale=1.0)
    dual.step(CONFIG, cost=4.0, intensity=1.0, scale=1.0)
    assert dual.ratio == pytest.approx(2.2)
    again = Dual(0.0, 0.0)
    again.load_state_dict(dual.state_dict())
    assert again == dual


def test_the_force_waits_and_grows() -> None:
    config = GameConfig(warmup=0.2, ramp=0.4)
    assert [force_limit(config, done) for done in (0.0, 0.19, 0.2, 0.4, 0.6, 1.0)] == pytest.approx(
        [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
    )
    assert force_limit(GameConfig(warmup=0.0, ramp=0.0), 0.0) == 1.0
