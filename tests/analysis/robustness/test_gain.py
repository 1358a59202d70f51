"""The gain that playing finds, against the exact one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from rlstab.analysis.robustness import linear
from rlstab.analysis.robustness.attacks import CrossEntropy, Rectangle, WhiteNoise
from rlstab.analysis.robustness.forced import Plant
from rlstab.analysis.robustness.gain import GainCurve, estimate_gain
from rlstab.envs.linear.systems import SYSTEMS
from rlstab.errors import UserError
from rlstab.policies.linear import LinearPolicy
from rlstab.runs.environment import EnvSettings

MakeLinear: TypeAlias = Callable[[str, Any], LinearPolicy]

FEW = (Rectangle(onsets=4, lengths=4), CrossEntropy(coefficients=6, population=16, iterations=6))


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_playing_finds_nearly_all_of_the_exact_gain_and_never_more(name: str, linear_policy: MakeLinear) -> None:
    system = SYSTEMS[name]()
    gain = linear.lqr(system)
    exact = linear.finite_horizon_gain(linear.close(system, gain), 200)[0]
    env_id = f"rlstab/LinearQuadratic-{name}-v0"
    curve = estimate_gain(
        linear_policy(env_id, gain),
        Plant.of(EnvSettings(env_id)),
        energies=[0.1, 10.0],
        seconds=200 * system.dt,
        starts=2,
    )
    assert curve.measure == "incremental"
    assert (curve.gain >= 0.98 * exact).all()
    assert (curve.gain <= exact * (1 + 1e-6)).all()
    assert curve.steps == 200
    assert math.isinf(curve.felling_energy)


def test_the_pendulum_in_the_simulator_answers_as_its_linearisation_says(
    balancer: LinearPolicy, pendulum: Plant
) -> None:
    # Forces of a few newtons, as in the specification's figure for S5.
    curve = estimate_gain(
        balancer,
        pendulum,
        energies=[0.02],
        seconds=10.0,
        attacks=(CrossEntropy(population=32, iterations=12),),
        starts=1,
        searched=1,
    )
    assert curve.gain[0] / pendulum.point.weight == pytest.approx(0.155037, rel=0.02)
    assert 1.0 < curve.peak[0, 0] * pendulum.point.weight < 5.0


def test_findings_have_the_energy_asked_for(balancer: LinearPolicy, pendulum: Plant) -> None:
    attack = Rectangle(onsets=1, lengths=1)
    curve = estimate_gain(balancer, pendulum, energies=[0.05], seconds=1.0, attacks=(attack,), starts=1, searched=1)
    # A force of one step: e^2 = w^2 dt.
    assert curve.peak[0, 0] == pytest.approx(0.05 / math.sqrt(pendulum.dt))
    assert curve.impulse[0, 0] == pytest.approx(0.05 * math.sqrt(pendulum.dt))


def test_what_falls_by_itself_has_no_finite_gain(pendulum: Plant, linear_policy: MakeLinear) -> None:
    idle = linear_policy("InvertedPendulum-v5", np.zeros((1, 4)))
    curve = estimate_gain(idle, pendulum, energies=[1e-4], seconds=8.0, attacks=FEW, starts=2)
    assert curve.falls_undisturbed == 1.0
    assert np.isinf(curve.gain).all()
    assert curve.felling_energy == 0.0
    assert curve.played == 2 * curve.steps
    curve.plot()  # Without a line, and without a warning of it.
    assert "no gain is finite" in str(curve.summary()["falls without any force"])


def test_the_smallest_energy_that_fells_is_told(balancer: LinearPolicy, pendulum: Plant, tmp_path: Path) -> None:
    curve = estimate_gain(balancer, pendulum, energies=[0.01, 30.0], seconds=2.0, attacks=FEW, starts=2)
    assert curve.felling_energy == 30.0
    assert curve.fell[0].max() == 0.0
    curve.save(tmp_path / "gain.json")
    assert GainCurve.load(tmp_path / "gain.json").summary() == curve.summary()
    ax = curve.plot()
    assert ax.get_xscale() == "log"


@pytest.mark.parametrize(
    "changes",
    [
        {"energies": [0.0]},
        {"energies": []},
        {"energies": [-1.0]},
        {"attacks": ()},
        {"starts": 1, "searched": 2},
        {"seconds": 0.0},
    ],
)
def test_numbers_out_of_range_are_refused(balancer: LinearPolicy, pendulum: Plant, changes: dict[str, object]) -> None:
    settings: dict[str, object] = {"energies": [1.0], "seconds": 1.0, "attacks": (WhiteNoise(samples=2),)} | changes
    with pytest.raises(UserError):
        estimate_gain(balancer, pendulum, **settings)  # pyright: ignore[reportArgumentType]
