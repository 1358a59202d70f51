"""What is foreseen against what happens in the exact environment."""

from __future__ import annotations

import numpy as np
import torch

from rlstab.controllers.roa.pogobot.course import Track, at, clearance, decide, land
from rlstab.controllers.roa.pogobot.handmade import exact_hop
from rlstab.envs.hybrid.corridor import random_corridor, segment_at, target_height
from rlstab.envs.hybrid.pogobot import hop


class Fixed:
    """Always the same control, whatever the mode; exact hops."""

    def __init__(self, control: torch.Tensor) -> None:
        self._control = control

    def control(self, x, configuration):
        return self._control

    predict = staticmethod(exact_hop)

    def value(self, x, configuration):
        return x[:, 0] * 0.0

    def level(self, configuration):
        return configuration[:, 0] * 0.0 + 1.0


def test_what_is_foreseen_of_exact_hops_is_what_happens() -> None:
    rng, n = np.random.default_rng(0), 3000
    corridors = np.stack([random_corridor(np.random.default_rng(seed))[0].configuration() for seed in range(30)])
    corridors = np.tile(corridors, (100, 1))
    apex = rng.uniform([0.0, 0.3, 0.0], [18.0, 2.5, 0.0], (n, 3))
    table = corridors.reshape(n, 5, 4)[np.arange(n), segment_at(corridors, apex[:, 0])]
    apex[:, 2] = rng.uniform(table[:, 1] + 1.05, table[:, 2])
    control = np.stack([0.08 * apex[:, 1] + rng.normal(0.0, 0.05, n), rng.uniform(-2000.0, 2000.0, n)], -1)
    taken = hop(*apex.T, *control.T, corridors)
    track, tensors = Track.of(torch.tensor(corridors)), [torch.tensor(part) for part in apex.T]
    none = torch.zeros(n, dtype=torch.float64)
    decision = decide(Fixed(torch.tensor(control)), track, *tensors, none + 1.0, none + 2.0)
    foreseen = exact_hop(decision.state, decision.control)
    body = clearance(track, *tensors, foreseen, decision.landing)
    room = torch.minimum(body, decision.clearance).numpy()
    # A landing right beside an edge is near, but no failure: only the body and the tip over a wall can hit.
    passes = ~taken.failed
    assert 0.1 < passes.mean() < 0.95
    assert not taken.failed[room > 0.02].any()
    hits = (body.numpy() < -0.02) | (decision.clearance.numpy() < -0.02)
    # In stance the foreseen body crouches deeper than the real one may.
    assert passes[hits].mean() < 0.05
    clear = passes & (room > 0.02)
    np.testing.assert_array_equal(decision.landing.numpy()[clear], segment_at(corridors, taken.touchdown[:, 4])[clear])
    np.testing.assert_allclose((apex[:, 0] + foreseen.dx.numpy())[clear], taken.x[clear], atol=1e-9)
    reached = at(track.floor, decision.landing) + foreseen.y
    np.testing.assert_allclose(reached.numpy()[clear], taken.y[clear], atol=1e-9)


def test_a_mode_is_the_world_seen_from_the_floor_that_the_foot_lands_on() -> None:
    corridor = np.array([[2.0, 0.0, 3.0, 1.0], [9.0, 0.5, 3.0, 1.5]])
    configuration = np.concatenate([corridor.ravel(), *[corridor[-1]] * 3])[None]
    track = Track.of(torch.tensor(configuration))
    apex = torch.tensor([[1.9, 1.5, 1.9], [0.5, 1.0, 1.9]]).double()
    track = Track(*(part.expand(2, -1) for part in vars(track).values()))
    control = torch.tensor([[0.1, 0.0]]).double().expand(2, -1)
    decision = decide(Fixed(control), track, *apex.T, torch.ones(2).double(), torch.full((2,), 2.2).double())
    assert decision.landing.tolist() == [1, 0]
    floor = at(track.floor, decision.landing)
    torch.testing.assert_close(decision.state[:, 1] + floor, apex[:, 2])
    torch.testing.assert_close(decision.reference[:, 1] + floor, torch.full((2,), 2.2).double())


def test_a_leg_that_does_not_fit_and_a_wall_are_missed_by_less_than_nothing() -> None:
    corridor = np.array([[2.0, 0.0, 3.0, 1.0], [9.0, 1.5, 3.0, 1.5]])
    configuration = np.concatenate([corridor.ravel(), *[corridor[-1]] * 3])
    track = Track.of(torch.tensor(np.tile(configuration, (2, 1))))
    x, xdot, y = torch.tensor([[3.0, 1.5], [1.0, 2.0], [2.0, 1.8]]).double()
    _, missed = land(track, x, xdot, y, torch.zeros(2).double())
    assert (missed < 0.0).all()


def test_heights_to_aim_at_are_the_environments() -> None:
    corridors = np.stack([random_corridor(np.random.default_rng(seed))[0].configuration() for seed in range(9)])
    table = corridors.reshape(-1, 5, 4)
    aims = Track.of(torch.tensor(corridors)).targets()
    np.testing.assert_allclose(aims, target_height(table[:, :, 1], table[:, :, 2]))
