"""Corridors: the benchmark's forty, and what makes no corridor."""

from __future__ import annotations

import numpy as np
import pytest

from rlstab.envs.hybrid.corridor import Corridor, ceiling_at, floor_at, random_corridor, target_height
from rlstab.errors import UserError


def test_the_forty_maps_of_the_benchmark_are_of_the_counted_kinds():
    drawn = [random_corridor(np.random.default_rng(seed)) for seed in range(40)]
    assert np.bincount([kind for _, kind in drawn]).tolist() == [8, 10, 13, 9]
    for corridor, kind in drawn:
        assert len(corridor.segments) == (5 if kind == 3 else 4)
        floors, ceilings = corridor.segments[:, 1], corridor.segments[:, 2]
        assert (np.maximum(floors[1:], floors[:-1]) + 1.1 < np.minimum(ceilings[1:], ceilings[:-1]) - 0.1).all()


def test_floors_and_ceilings_are_those_of_the_segment():
    configuration = Corridor(np.array([[2.0, 0.0, 3.0, 1.0], [2.0, 0.5, 2.0, 1.0]])).configuration()
    x = np.array([-1.0, 1.9, 2.0, 3.0, 99.0])
    table = np.tile(configuration, (5, 1))
    assert floor_at(table, x).tolist() == [0.0, 0.0, 0.5, 0.5, 0.5]
    assert ceiling_at(table, x).tolist() == [3.0, 3.0, 2.0, 2.0, 2.0]


def test_the_height_to_aim_at_is_clear_of_floor_and_ceiling():
    assert target_height(0.0, 1.8) == pytest.approx(1.4)
    assert target_height(0.0, 3.0) == pytest.approx(1.8)
    assert target_height(0.0, 1.2) == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((0, 4)), "1 to 5 rows of 4 numbers"),
        (np.ones((6, 4)), "1 to 5 rows of 4 numbers"),
        (np.array([[0.0, 0.0, 1.0, 1.0]]), "positive length"),
        (np.array([[1.0, 1.0, 1.0, 1.0]]), "ceiling above its floor"),
    ],
)
def test_what_makes_no_corridor_is_refused(rows, words):
    with pytest.raises(UserError, match=words):
        Corridor(rows)
