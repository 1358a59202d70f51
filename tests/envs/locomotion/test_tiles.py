"""Pieces of ground have the shape that their kind and difficulty say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstab.envs.locomotion import tiles
from rlstab.envs.locomotion.terrain import Terrain
from rlstab.runs.seeding import generator

LEVELS = 10


def ground(kind, difficulty, points, seed=0):
    """Heights of one tile of ``kind`` at ``points`` from its middle."""
    terrain = Terrain((kind,), LEVELS, seed)
    level = round(difficulty * LEVELS)
    return terrain.height(terrain.centre(level, 0)[:2] + np.asarray(points))


@pytest.mark.parametrize("kind", tiles.KINDS)
@given(level=st.integers(0, LEVELS - 1), seed=st.integers(0, 3))
def test_every_tile_ends_on_the_border_and_starts_where_it_says(kind, level, seed):
    terrain = Terrain((kind,), LEVELS, seed)
    tile = terrain.tiles[level][0]
    edges = [tile.field_heights[0], tile.field_heights[-1], tile.field_heights[:, 0], tile.field_heights[:, -1]]
    np.testing.assert_array_equal(np.concatenate(edges), 0.0)
    assert terrain.height(terrain.origin(level, 0)[:2]) == pytest.approx(tile.start_height, abs=1e-9)
    assert all(box.x0 < box.x1 and box.y0 < box.y1 for box in tile.boxes)
    # Somewhere to stand: no more than bumps under the robot.
    around = np.stack(np.meshgrid([-0.3, 0.0, 0.3], [-0.3, 0.0, 0.3]), axis=-1)
    height = ground(kind, level / LEVELS, around, seed)
    assert np.ptp(height) <= 0.16


@given(st.integers(0, LEVELS - 1))
def test_a_slope_rises_as_it_says(level):
    k = level / LEVELS
    outer, inner = ground("slope", k, [[3.5, 0.0], [2.0, 0.0]])
    assert (inner - outer) / 1.5 == pytest.approx(0.4 * k, abs=1e-9)


@given(st.integers(0, LEVELS - 1))
def test_stairs_add_a_rise_every_tread(level):
    k = level / LEVELS
    middle_of_steps = [[1.5 + 0.3 * step + 0.15, 0.0] for step in range(-1, 8)]
    for kind, sign in (("stairs_up", 1.0), ("stairs_down", -1.0)):
        heights = ground(kind, k, middle_of_steps)
        np.testing.assert_allclose(np.diff(heights), sign * (0.05 + 0.18 * k), atol=1e-9)


def test_roughness_grows_from_one_to_seven_centimetres():
    for level, size in ((0, 0.01), (9, 0.01 + 0.07 * 0.9)):
        bumps = (
            tiles.rough(level / 10, generator(0)).field_heights - tiles.slope(level / 10, generator(0)).field_heights
        )
        assert 0.8 * size < np.abs(bumps).max() <= size


def test_obstacles_leave_the_start_free_and_have_their_height():
    tile = tiles.discrete(0.9, generator(1))
    tops = {box.top for box in tile.boxes}
    assert max(tops) == pytest.approx(0.05 + 0.1 * 0.9)
    assert all(max(abs(box.x0 + box.x1), abs(box.y0 + box.y1)) / 2 > 0.5 for box in tile.boxes)


def test_waves_have_their_height_and_a_gap_its_width():
    assert tiles.wave(1.0, generator(0)).field_heights.max() == pytest.approx(0.2, rel=0.02)
    across = ground("gap", 0.5, [[0.9, 0.0], [1.2, 0.0], [1.5, 0.0]])
    np.testing.assert_allclose(across, [0.0, -0.5, 0.0], atol=1e-9)


def test_slippery_ground_is_within_the_specified_friction():
    frictions = [tiles.slippery(k, generator(0)).friction for k in (0.0, 1.0)]
    np.testing.assert_allclose(frictions, [0.35, 0.2])


def test_a_seed_makes_the_same_ground_again_and_another_seed_another():
    one, again, other = (Terrain(("rough", "discrete"), 3, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.field_heights, again.field_heights)
    assert one.boxes() == again.boxes()
    assert np.any(one.field_heights != other.field_heights)
