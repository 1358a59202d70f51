from __future__ import annotations

import numpy as np
import pytest
import torch

from rlstab.controllers.roa.pogobot.mpc import MpcPilot, _Map
from rlstab.envs.hybrid.corridor import Corridor
from rlstab.policies.roa.pogobot import PogobotModel

casadi = pytest.importorskip("casadi")
ROWS = np.array([[9.0, 0.2, 3.0, 1.0], [9.0, 0.2, 3.0, 1.0]])


def _parameters(rows: np.ndarray) -> np.ndarray:
    table = Corridor(rows).configuration().reshape(5, 4)
    return np.concatenate([np.cumsum(table[:, 0]), *table[:, 1:].T, np.full(5, 1.8)])


def test_the_symbolic_hop_is_the_networks() -> None:
    torch.manual_seed(0)
    model = PogobotModel((8, 8)).double()
    x, u, p = casadi.SX.sym("x", 4), casadi.SX.sym("u", 2), casadi.SX.sym("p", 25)
    step = casadi.Function("step", [x, u, p], [_Map(model).step(x, u, p)])
    after = np.asarray(step([1.0, 1.2, 1.9, 0.0], [0.3, -0.4], _parameters(ROWS)))[:, 0]
    hops = model.predict(torch.tensor([[1.2, 1.7]]).double(), torch.tensor([[0.15, -2000.0]]).double())
    expected = [1.0 + float(hops.dx.detach()), float(hops.xdot.detach()), 0.2 + float(hops.y.detach())]
    np.testing.assert_allclose(after[:3], expected, atol=1e-4)


def test_a_pilot_decides_within_the_limits_and_forgets() -> None:
    torch.manual_seed(0)
    pilot = MpcPilot(PogobotModel((8,)), horizon=2)
    corridor = Corridor(ROWS).configuration()[None]
    first = pilot(np.array([[1.0, 1.2, 1.9]]), corridor)
    assert first.shape == (1, 2)
    assert (np.abs(first) <= [[0.5, 5000.0]]).all()
    assert len(pilot.solved) == 1
    assert pilot.build_seconds > 0.0
    pilot.reset()
    assert pilot.solved == []
    np.testing.assert_array_equal(pilot(np.array([[1.0, 1.2, 1.9]]), corridor), first)
