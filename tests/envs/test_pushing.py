from __future__ import annotations

import pytest

from rlstab.envs.pushing import push_point
from rlstab.errors import UserError


def test_forces_on_a_robot_are_measured_in_its_weight() -> None:
    point = push_point("Hopper-v5")
    assert point.weight == pytest.approx(155.0, abs=2.0)
    assert point.mass == pytest.approx(15.8, abs=0.1)
    assert (point.body, point.directions, point.channels) == ("torso", "sagittal", 2)
    assert point.force(31.0).max_force == 31.0


def test_another_body_can_be_chosen() -> None:
    assert push_point("Walker2d-v5", body="foot").force(5.0).body == "foot"


def test_a_linear_system_has_no_weight() -> None:
    point = push_point("rlstab/LinearQuadratic-S2-v0")
    assert (point.weight, point.channels) == (1.0, 1)


@pytest.mark.parametrize(("env_id", "message"), [("CartPole-v1", "native"), ("Reacher-v5", "which body")])
def test_what_cannot_be_pushed_is_refused(env_id: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        push_point(env_id)
