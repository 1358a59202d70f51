"""Published sets are proved up to their last digit, false claims are refuted by a state, and time-outs are no proof."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rlstab.analysis.certificates.lyapunov.bounds import AffineBounds
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.analysis.certificates.lyapunov.regions import inscribed_level
from rlstab.analysis.certificates.lyapunov.verifier import (
    Budget,
    Claim,
    find_counterexample,
    split,
    undecided,
    verify,
)
from rlstab.envs.plants import CartPole, InvertedPendulum, PathTracking, Plant
from rlstab.errors import UserError
from rlstab.policies.lyapunov import (
    LinearFeedback,
    LyapunovNetwork,
    NetworkFeedback,
    QuadraticLyapunov,
    discrete_lyapunov,
    lqr,
)

WEAK = InvertedPendulum(control_low=(-0.75,), control_high=(0.75,))
TIGHT = PathTracking(control_low=(-0.5,), control_high=(0.5,))


def _loop(plant: Plant, weight: float) -> ClosedLoop:
    feedback = lqr(plant, control_weight=weight)[0]
    return ClosedLoop(plant, feedback, discrete_lyapunov(plant, feedback))


def _area(loop: ClosedLoop) -> float:
    """Largest ellipse within the box that is proved, by bisection."""
    assert isinstance(loop.lyapunov, QuadraticLyapunov)
    matrix = loop.lyapunov.matrix
    touching = float((loop.half_widths.numpy() ** 2 / np.diag(np.linalg.inv(matrix))).min())
    low, high = 0.0, touching
    status = verify(loop, Claim(rho=touching, hole=1e-3)).status
    while status != "proved" and high - low > 2e-4 * high:
        middle = 0.5 * (low + high)
        if verify(loop, Claim(rho=middle, hole=1e-3)).status == "proved":
            low = middle
        else:
            high = middle
    level = touching if status == "proved" else low
    return math.pi * level / math.sqrt(np.linalg.det(matrix))


@pytest.mark.parametrize(
    ("plant", "weight", "area"),
    [
        (InvertedPendulum(), 100.0, 56.8),
        (InvertedPendulum(), 10.0, 75.8),
        (InvertedPendulum(), 1.0, 99.8),
        (InvertedPendulum(), 0.1, 97.7),
        (WEAK, 10.0, 8.28),
        (PathTracking(), 100.0, 9.64),
        (PathTracking(), 10.0, 15.40),
        (PathTracking(), 1.0, 1.77),
        (TIGHT, 100.0, 9.64),
    ],
)
def test_the_sets_of_linear_controllers_are_as_published(plant: Plant, weight: float, area: float) -> None:
    assert _area(_loop(plant, weight)) == pytest.approx(area, rel=4e-3)


def test_a_level_that_is_too_high_is_refuted_by_a_state() -> None:
    loop = _loop(InvertedPendulum(), 10.0)
    outcome = verify(loop, Claim(rho=900.0, c1=1.0))
    assert outcome.status == "refuted"
    found = outcome.counterexample
    assert found is not None
    x = torch.tensor(found.state)
    assert float(loop.value(x)) == found.value <= 900.0
    assert np.array_equal(loop.step(x).numpy(), found.next_state)
    assert found.next_value > (1 - 1e-3) * found.value or np.abs(found.next_state).max() > 12.0


def test_decrease_is_proved_down_to_an_inner_level_that_is_never_left() -> None:
    loop = _loop(InvertedPendulum(), 10.0)
    claim = Claim(rho=135.0, c1=0.1)
    outcome = verify(loop, claim)
    assert outcome.status == "proved"
    assert outcome.open_boxes == 0
    x = loop.sample(20_000, seed=1)
    x = x[loop.value(x) <= claim.rho]
    for _ in range(math.ceil(math.log(claim.rho / claim.c1) / -math.log1p(-claim.kappa))):
        x = loop.step(x)
    assert float(loop.value(x).max()) <= claim.c1


def test_four_states_are_decided_in_the_coordinates_of_the_form() -> None:
    plant = CartPole()
    loop = ClosedLoop(plant, *lqr(plant, control_weight=10.0))
    outcome = verify(loop, Claim(rho=30.0, c1=5.0, kappa=1e-4))
    assert outcome.status == "proved"
    assert outcome.boxes < 300_000
    assert verify(loop, Claim(rho=60.0, c1=5.0, kappa=1e-4)).status == "refuted"


class _Kick(nn.Module):
    """Linear feedback that pushes the wrong way within a small ball."""

    def __init__(self, feedback: nn.Module, centre: tuple[float, float], radius: float) -> None:
        super().__init__()
        self.feedback, self.centre, self.radius = feedback, centre, radius

    def forward(self, state):
        x, y = state.unbind(-1)
        bump = torch.relu(self.radius - (x - self.centre[0]).abs() - (y - self.centre[1]).abs())
        return self.feedback(state) + torch.stack([bump * (6.0 / self.radius)], -1)


def test_a_violation_planted_near_the_origin_is_found() -> None:
    plant = InvertedPendulum()
    feedback = lqr(plant, control_weight=10.0)[0]
    value = discrete_lyapunov(plant, feedback)
    direction = torch.tensor([0.3, 0.4], dtype=torch.float64)
    # At one percent of rho, on a ball of a thousandth of the box's area.
    centre = direction * float((0.01 * 135.0 / value(direction)).sqrt())
    loop = ClosedLoop(plant, _Kick(feedback, (float(centre[0]), float(centre[1])), 0.05), value)
    claim = Claim(rho=135.0, c1=0.1)
    sampled = loop.sample(2000, seed=0)
    assert find_counterexample(loop, claim, sampled) is None
    outcome = verify(loop, claim)
    assert outcome.status == "refuted"
    assert outcome.counterexample is not None
    assert np.abs(outcome.counterexample.state - centre.numpy()).sum() < 0.05


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.1, 0.5, 1.0, 2.0]))
def test_what_is_proved_no_sample_breaks_and_what_is_refuted_is_broken(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    plant = [InvertedPendulum(), WEAK, PathTracking(), TIGHT][seed % 4]
    feedback = lqr(plant, control_weight=10.0 ** rng.uniform(-1, 3))[0]
    gain = feedback.gain.numpy() * rng.uniform(0.7, 1.4, 2)
    root = discrete_lyapunov(plant, feedback).factor.numpy() + 0.05 * rng.standard_normal((2, 2))
    form = root @ root.T
    loop = ClosedLoop(plant, LinearFeedback(gain, plant.equilibrium_control), QuadraticLyapunov(form))
    rho = share * inscribed_level(form, plant.box)
    claim = Claim(rho=rho, c1=0.03 * rho)
    outcome = verify(loop, claim, Budget(seconds=20.0))
    if outcome.status == "proved":
        for scale in (1.0, 0.2):
            assert find_counterexample(loop, claim, scale * loop.sample(50_000, seed=seed)) is None
    if outcome.status == "refuted":
        assert outcome.counterexample is not None
        x = torch.as_tensor(outcome.counterexample.state)
        value, following = float(loop.value(x)), loop.step(x)
        allowed = max((1 - claim.kappa) * value, claim.c1)
        assert value <= rho
        assert float(loop.value(following)) > allowed or not bool(loop.inside(following))


def test_a_network_is_decided_as_its_samples_say() -> None:
    torch.manual_seed(0)
    plant = InvertedPendulum()
    loop = ClosedLoop(plant, NetworkFeedback(2, plant.equilibrium_control), LyapunovNetwork(2))
    assert verify(loop, Claim(rho=0.5, c1=0.1)).status == "refuted"


@pytest.mark.parametrize("budget", [Budget(boxes=300), Budget(seconds=1e-4)])
def test_a_budget_that_ends_is_no_proof(budget: Budget) -> None:
    outcome = verify(_loop(PathTracking(), 10.0), Claim(rho=80.0, c1=0.001), budget)
    assert outcome.status == "unknown"
    assert outcome.open_boxes > 0
    assert outcome.counterexample is None


def test_without_an_inner_level_or_a_hole_nothing_is_proved() -> None:
    outcome = verify(_loop(InvertedPendulum(), 10.0), Claim(rho=10.0), Budget(seconds=10.0, boxes=200_000))
    assert outcome.status == "unknown"


def test_a_set_that_leaves_the_box_is_refuted() -> None:
    plant = InvertedPendulum(box=(0.5, 12.0))
    feedback = lqr(plant, control_weight=10.0)[0]
    loop = ClosedLoop(plant, feedback, discrete_lyapunov(plant, feedback))
    outcome = verify(loop, Claim(rho=100.0, c1=0.1))
    assert outcome.status == "refuted"
    assert outcome.counterexample is not None
    assert outcome.counterexample.reason == "the next state is outside of the box"


def test_halves_share_their_face() -> None:
    low, high = torch.rand(50, 3, dtype=torch.float64), 1 + torch.rand(50, 3, dtype=torch.float64)
    new_low, new_high = split(low, high, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    changed = (new_high[:50] != high).nonzero()
    assert torch.equal(changed, (new_low[50:] != low).nonzero())
    assert torch.equal(new_high[:50][new_high[:50] != high], new_low[50:][new_low[50:] != low])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Claim(rho=0.0), "rho must be positive"),
        (lambda: Claim(rho=1.0, c1=1.0), "below rho"),
        (lambda: Claim(rho=1.0, kappa=0.0), "kappa must be between"),
        (lambda: Claim(rho=1.0, hole=1.0), "hole is a share"),
        (lambda: Budget(seconds=0.0), "must be positive"),
        (lambda: ClosedLoop(WEAK, nn.Linear(3, 1), nn.Linear(3, 1)), "do not take states of inverted-pendulum"),
        (lambda: ClosedLoop(WEAK, nn.Linear(2, 2), nn.Linear(2, 1)), "needs a controller with 1 outputs"),
        (lambda: ClosedLoop(WEAK, *lqr(WEAK), box=(1.0, -1.0)), "2 positive half-widths"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


class _Overflowing(nn.Module):
    """``|k x|^2``, so steep that its bounds overflow while its values do not."""

    def forward(self, x):
        return (1e154 * x).square().sum(-1)


def test_bounds_that_overflow_prove_nothing() -> None:
    loop = ClosedLoop(InvertedPendulum(), LinearFeedback([[0.0, 0.0]], (0.0,)), _Overflowing())
    assert verify(loop, Claim(rho=1e307, c1=0.25e307), Budget(seconds=5.0)).status != "proved"


def test_what_is_not_a_number_leaves_every_box_open() -> None:
    class Nothing(nn.Module):
        def forward(self, x):
            return (x * torch.nan).square().sum(-1)

    loop = ClosedLoop(InvertedPendulum(), LinearFeedback([[0.0, 0.0]], (0.0,)), Nothing())
    low = torch.tensor([[-1.0, -1.0], [0.5, 0.5]], dtype=torch.float64)
    is_open, least = undecided(loop, Claim(rho=1.0, c1=0.5), AffineBounds.of_boxes(low, low + 0.25))
    assert bool(is_open.all())
    assert bool((least == -torch.inf).all())
    assert verify(loop, Claim(rho=1.0), Budget(seconds=5.0, boxes=5000)).status == "unknown"
