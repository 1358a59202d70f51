"""The terrain of the model is the one that is looked up, and acts as it says."""

import mujoco
import numpy as np
import pytest

from rlstab.envs.locomotion import frames
from rlstab.envs.locomotion.model import complete
from rlstab.envs.locomotion.robots import ROBOTS
from rlstab.envs.locomotion.terrain import Terrain
from rlstab.envs.locomotion.terrain_model import add_terrain
from rlstab.envs.locomotion.tiles import KINDS
from rlstab.errors import UserError

ROBOT = ROBOTS["go1"]


def built(terrain):
    return complete(
        ROBOT.describe(), ROBOT.servos(0.5), ROBOT.height, "all", lambda spec: add_terrain(spec, terrain)
    )  # fmt: skip


def settled(terrain, place, steps=400):
    """The robot after standing for a while with its base starting above ``place``."""
    model = built(terrain)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    data.qpos[:2] = place
    data.qpos[2] += terrain.height(place) + 0.05
    for _ in range(steps):
        mujoco.mj_step(model, data)
    return model, data


def test_rays_find_the_ground_where_it_is_looked_up():
    terrain = Terrain(tuple(KINDS), 3)
    model = built(terrain)
    data = mujoco.MjData(model)
    data.qpos[2] = 50.0
    mujoco.mj_forward(model, data)
    points = np.random.default_rng(0).uniform(-0.6, 0.6, (1500, 2)) * terrain.shape
    found, geom = np.empty(len(points)), np.zeros(1, np.int32)
    for row, (x, y) in enumerate(points):
        start = np.array([x, y, 20.0])
        found[row] = 20.0 - mujoco.mj_ray(model, data, start, np.array([0.0, 0.0, -1.0]), None, 1, -1, geom, None)
    error = np.abs(found - terrain.height(points))
    # Vertical faces are looked up to 5 cm, and the field's triangles are bent between their corners.
    assert np.mean(error > 0.02) < 0.005
    assert np.median(error) < 1e-6


def test_gravity_leans_by_the_slope():
    terrain = Terrain(("slope",), 10)
    # On the middle of the side that falls towards +x of the tile with difficulty 0.5.
    step = np.array([0.1, 0.0])
    place = terrain.centre(5, 0)[:2] + 27.5 * step
    _, data = settled(terrain, place, 300)
    assert np.hypot(*frames.up(data.qpos[None, 3:7])[0, :2]) == pytest.approx(np.sin(np.arctan(0.2)), abs=0.06)
    rise = terrain.height(place - step) - terrain.height(place + step)
    assert rise / 0.2 == pytest.approx(0.4 * 0.5)


def test_slippery_ground_is_slippery_whatever_the_feet_are_made_of():
    terrain = Terrain(("flat", "slippery"), 1)
    frictions = []
    for kind in (0, 1):
        _, data = settled(terrain, terrain.origin(0, kind)[:2], 200)
        contacts = [data.contact[index] for index in range(data.ncon)]
        assert contacts
        frictions.append({contact.friction[0] for contact in contacts})
    assert frictions == [{0.8}, {0.35}]


def test_outside_there_is_a_level_border():
    terrain = Terrain(("stairs_up",), 1)
    assert terrain.height(np.array([[10.0, 0.0], [0.0, -10.0]])).tolist() == [0.0, 0.0]
    _, data = settled(terrain, np.array([10.0, 0.0]), 200)
    assert 0.2 < data.qpos[2] < 0.3


@pytest.mark.parametrize(
    ("kinds", "levels", "message"),
    [(("stares_up",), 1, "did you mean 'stairs_up'"), ((), 1, "at least one"), (("flat",), 0, "at least one")],
)
def test_terrain_that_can_not_be_is_refused(kinds, levels, message):
    with pytest.raises(UserError, match=message):
        Terrain(kinds, levels)
