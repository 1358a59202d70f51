"""Pictures of regions show the box, the levels and what breaks the claim."""

from __future__ import annotations

import pytest

from rlstab.analysis.certificates.lyapunov.drawing import draw_region
from rlstab.analysis.certificates.lyapunov.loop import ClosedLoop
from rlstab.envs.plants import CartPole, PathTracking
from rlstab.errors import UserError
from rlstab.policies.lyapunov import lqr


def test_a_region_is_drawn_with_units() -> None:
    loop = ClosedLoop(PathTracking(), *lqr(PathTracking(), control_weight=10.0))
    ax = draw_region(loop, [1.0, 100.0], counterexamples=[2.5, 2.5], cells=60)
    assert ax.get_xlabel() == "distance [m]"
    assert ax.get_ylabel() == "heading [rad]"
    assert ax.get_xlim() == (-3.0, 3.0)
    assert ax.get_legend() is not None


def test_any_plane_of_a_larger_state_is_drawn() -> None:
    loop = ClosedLoop(CartPole(), *lqr(CartPole()))
    assert draw_region(loop, [30.0], plane=(2, 3), cells=50).get_xlabel() == "theta [rad]"
    # Nothing of the grid is inside of a level this low.
    draw_region(loop, [1e-9], cells=20)


def test_what_makes_no_sense_is_refused() -> None:
    loop = ClosedLoop(PathTracking(), *lqr(PathTracking()))
    with pytest.raises(UserError, match="two different states of path-tracking"):
        draw_region(loop, [1.0], plane=(0, 2))
    with pytest.raises(UserError, match="positive and ascending"):
        draw_region(loop, [2.0, 1.0])
