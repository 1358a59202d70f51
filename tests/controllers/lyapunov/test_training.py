"""Training is repeatable, keeps the equilibrium, and makes what can be proved larger."""

from __future__ import annotations

import pytest
import torch

from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.verifier import Claim, verify
from rlstab.controllers.lyapunov.training import TrainingSettings, largest_level, train_certified
from rlstab.envs.plants import InvertedPendulum
from rlstab.errors import UserError

SHORT = TrainingSettings(
    iterations=20, start_iterations=20, scales=(0.5, 1.0), rounds=1, batch=64, attack_starts=64, buffer=500
)


def test_training_is_repeatable_and_says_what_it_does() -> None:
    said: list[str] = []
    first = train_certified(InvertedPendulum(), SHORT, progress=said.append)
    second = train_certified(InvertedPendulum(), SHORT)
    assert first.rho == second.rho > 0.0
    for name, value in first.controller.state_dict().items():
        assert value.dtype == torch.float64
        assert torch.equal(value, second.controller.state_dict()[name])
    assert first.iterations >= 20
    assert [line.split(":")[0] for line in said[:2]] == ["box 0.5", "box 1"]


def test_the_clock_ends_training() -> None:
    settings = TrainingSettings(iterations=10**6, start_iterations=5, seconds=0.01, rounds=1)
    assert train_certified(InvertedPendulum(), settings).iterations == 0


def test_targets_are_what_is_to_be_held() -> None:
    targets = torch.tensor([[1.0, -1.0], [0.0, 2.0]], dtype=torch.float64)
    assert train_certified(InvertedPendulum(), SHORT, targets=targets).iterations >= 20


@pytest.mark.slow
def test_a_small_pendulum_is_trained_and_proved() -> None:
    plant = InvertedPendulum(box=(2.0, 4.0))
    trained = train_certified(plant, TrainingSettings(iterations=1400, rounds=3))
    bracket = largest_level(plant, trained.controller, trained.lyapunov, trained.rho, c1_share=0.03)
    assert bracket.proved > 0.0
    loop = ClosedLoop(plant, trained.controller, trained.lyapunov)
    assert verify(loop, Claim(rho=bracket.proved, c1=0.03 * trained.rho)).status == "proved"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingSettings(seconds=0.0), "must be positive"),
        (lambda: TrainingSettings(scales=(2.0,)), "shares of the box"),
        (lambda: TrainingSettings(kappa=1.0), "kappa and c1_share"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
