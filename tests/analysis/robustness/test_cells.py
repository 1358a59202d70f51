from __future__ import annotations

import numpy as np

from rlstab.analysis.robustness.cells import GRID, NOMINAL, battery_cells
from rlstab.analysis.robustness.forced import Plant
from rlstab.envs.disturbance import ObservationNoise, ParameterScale
from rlstab.envs.registry import make_vec
from rlstab.runs.environment import EnvSettings

HOPPER = Plant.of(EnvSettings("Hopper-v5"), num_threads=1)


def test_the_first_world_is_unchanged_and_all_others_are_not() -> None:
    cells = battery_cells(HOPPER, "full")
    assert (cells[0].test, cells[0].disturbances) == (NOMINAL, ())
    assert all(cell.disturbances for cell in cells[1:])
    assert sum(cell.test == GRID for cell in cells) == 100
    assert len(battery_cells(HOPPER, "quick")) < 25


def test_friction_is_that_of_every_contact() -> None:
    cell = next(cell for cell in battery_cells(HOPPER, "quick") if cell.test == "friction")
    slides = []
    for disturbances in ((), cell.disturbances):
        env = make_vec("Hopper-v5", 1, seed=0, disturbances=disturbances)
        env.reset(seed=0)
        # Until it falls and begins anew.
        slides.append(np.concatenate([env.step(np.array([[0.4, -0.6, 0.5]]))[0] for _ in range(60)]))
    assert not np.allclose(*slides)
    assert isinstance(cell.disturbances[0], ParameterScale)
    assert cell.disturbances[0].names is None


def test_noise_is_in_the_units_given() -> None:
    cells = battery_cells(HOPPER, "quick", [2.0] * 11)
    noise = [cell for cell in cells if cell.test == "observation noise"]
    assert {cell.unit for cell in noise} == {"standard deviations"}
    first = noise[0].disturbances[0]
    assert isinstance(first, ObservationNoise)
    assert first.scale == (2.0,) * 11


def test_a_linear_system_has_delays_and_noise_only() -> None:
    plant = Plant.of(EnvSettings("rlstab/LinearQuadratic-S2-v0"))
    assert {cell.test for cell in battery_cells(plant, "quick")} == {NOMINAL, "action delay", "observation noise"}


def test_what_a_model_lacks_is_not_scaled() -> None:
    # The inverted pendulum's joints have no rotor inertia.
    plant = Plant.of(EnvSettings("InvertedPendulum-v5"))
    tests = {cell.test for cell in battery_cells(plant, "full")}
    env = make_vec("InvertedPendulum-v5", 1)
    has_armature = bool(np.any(env.model.dof_armature))  # pyright: ignore[reportAttributeAccessIssue]
    assert ("armature" in tests) == has_armature
