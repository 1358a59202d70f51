from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstab.envs.disturbance import DecidedForce, from_json, to_json
from rlstab.errors import UserError

MASS = 2.001


def test_nothing_acts_until_somebody_decides(make_box: Any) -> None:
    still, quiet = make_box([DecidedForce("box", 10.0)]), make_box()
    for env in (still, quiet):
        env.reset(seed=0)
    for _ in range(3):
        np.testing.assert_array_equal(still.step(np.zeros((3, 1)))[0], quiet.step(np.zeros((3, 1)))[0])


def test_a_force_acts_along_its_axes_until_it_is_decided_anew(make_box: Any) -> None:
    env = make_box([DecidedForce("box", 100.0, "sagittal")])
    env.reset(seed=0)
    effect = env.disturbances[0]
    force = np.array([[1.0, 2.0], [0.0, 0.0], [-3.0, 4.0]])
    applied = effect.push(force)
    np.testing.assert_array_equal(applied, force)
    for _ in range(2):
        env.step(np.zeros((3, 1)))
    velocity = env.physics.qvel[:, :3]
    np.testing.assert_allclose(velocity[:, [0, 2]], force * 0.02 / MASS, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(velocity[:, 1], 0.0, atol=1e-9)


def test_a_longer_force_is_shortened_in_its_direction(make_box: Any) -> None:
    effect = make_box([DecidedForce("box", 5.0, "horizontal")]).disturbances[0]
    np.testing.assert_allclose(effect.push(np.array([[6.0, 8.0], [0.3, 0.4], [0.0, 0.0]]))[0], [3.0, 4.0])
    np.testing.assert_allclose(effect.push(np.array([[6.0, 8.0]] * 3), limit=1.0), [[0.6, 0.8]] * 3)
    np.testing.assert_allclose(effect.push(np.array([[6.0, 8.0]] * 3), limit=50.0), [[3.0, 4.0]] * 3)


def test_it_is_a_value_like_the_others() -> None:
    force = DecidedForce("torso", 3.0, "line", "body")
    assert from_json(to_json([force])) == (force,)
    assert force.fields == ("xmat",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((-1.0,), "max_force"), ((1.0, "up"), "directions are one of"), ((1.0, "line", "sky"), "a wrench's frame")],
)
def test_what_makes_no_force_is_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        DecidedForce("box", *arguments)
