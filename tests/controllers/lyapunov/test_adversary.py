"""The loss is zero where the claim holds, and attacks find where it does not."""

from __future__ import annotations

import pytest
import torch

from rlstab.controllers.lyapunov.adversary import Pair, attack, uniform
from rlstab.envs.plants import InvertedPendulum
from rlstab.policies.lyapunov import LyapunovNetwork, NetworkFeedback


@pytest.fixture
def pair() -> Pair:
    torch.manual_seed(0)
    controller, lyapunov = NetworkFeedback(2, (0.0,)).float(), LyapunovNetwork(2).float()
    return Pair(InvertedPendulum(), controller, lyapunov, level=1.0, kappa=0.01, margin=0.98)


def test_violations_are_those_of_the_claim(pair: Pair) -> None:
    states = uniform(2000, pair.half, torch.Generator().manual_seed(0))
    following = pair.step(states)
    value, after = pair.lyapunov(states), pair.lyapunov(following)
    leaves = (following.abs() > 0.98 * pair.half).any(-1)
    broken = (value < 1.0) & ((after > 0.99 * value) | leaves)
    assert 0 < int(broken.sum()) < 2000
    assert torch.equal(pair.violation(states) > 0.0, broken)


def test_attacks_climb(pair: Pair) -> None:
    generator = torch.Generator().manual_seed(0)
    found = attack(pair, 512, generator)
    assert bool((found.abs() <= pair.half).all())
    plain = uniform(512, pair.half, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert float(pair.violation(found).mean()) > float(pair.violation(plain).mean())


def test_a_limited_command_can_be_unlearned(pair: Pair) -> None:
    last = pair.controller.net[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.constant_(last.weight, 50.0)
    state = torch.full((1, 2), 3.0)
    wanted = pair.controller(state)
    assert float(wanted.detach().abs()) > 6.0
    following = pair.step(state)
    limited = pair.plant.step(state.unbind(-1), (wanted.clamp(-6.0, 6.0)[:, 0],))
    torch.testing.assert_close(following, torch.stack(tuple(limited), -1))
    following[0, 1].backward()
    assert last.weight.grad is not None
    assert float(last.weight.grad.abs().sum()) > 0.0


def test_half_of_the_states_are_in_smaller_boxes() -> None:
    states = uniform(4000, torch.tensor([2.0, 1.0]), torch.Generator().manual_seed(1))
    share = (states.abs() / torch.tensor([2.0, 1.0])).amax(-1)
    assert float(share.max()) <= 1.0
    assert float((share < 0.1).float().mean()) > 0.2
