"""The law of velocity commands."""

import numpy as np
import pytest

from rlstab.envs.carried import nothing_yet, row_of
from rlstab.envs.locomotion.commands import SHAPES, CommandLaw
from rlstab.runs.seeding import generator

LAW = CommandLaw(limits=(1.5, 0.8, 1.2), kept=(0.9, 0.25, 0.5), mean_wait_s=5.0)
DT = 0.02


def begun(worlds, law=LAW, seed=0):
    def numbers(world, purpose):
        return generator(seed, purpose, world)

    carried = nothing_yet(SHAPES, worlds)
    for world in range(worlds):
        law.begin(row_of(carried, world), world, numbers, DT)
    return carried, numbers


def test_the_first_command_fills_the_box():
    command = begun(2000)[0]["command"]
    limits = np.array(LAW.limits)
    assert (np.abs(command) <= limits).all()
    np.testing.assert_allclose(command.mean(axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose(command.std(axis=0), limits / np.sqrt(3), rtol=0.05)


def test_times_between_changes_are_exponential():
    wait = begun(4000)[0]["command_wait"] * DT
    assert wait.mean() == pytest.approx(5.0, rel=0.05)
    assert wait.std() == pytest.approx(5.0, rel=0.08)
    assert wait.min() >= DT


def test_a_change_keeps_half_and_zeroes_by_the_law():
    carried, numbers = begun(6000)
    before = carried["command"].copy()
    carried["command_wait"][:] = 1.0
    LAW.advance(carried, numbers, DT)
    after = carried["command"]
    changed = after != before
    np.testing.assert_allclose(changed.mean(axis=0), 0.5, atol=0.03)
    for component, kept in enumerate(LAW.kept):
        zero = after[changed[:, component], component] == 0.0
        assert zero.mean() == pytest.approx(1.0 - kept, abs=0.03)
    assert (carried["command_changes"] == 1).all()
    assert (carried["command_wait"] >= 1).all()


def test_nothing_changes_before_its_time():
    carried, numbers = begun(8)
    carried["command_wait"][:] = 3.0
    before = carried["command"].copy()
    for _ in range(2):
        LAW.advance(carried, numbers, DT)
        np.testing.assert_array_equal(carried["command"], before)
    LAW.advance(carried, numbers, DT)
    assert (carried["command"] != before).any()


def test_a_world_is_commanded_alike_in_any_company():
    crowd, numbers = begun(5)
    few, few_numbers = begun(2)
    for _ in range(2000):
        LAW.advance(crowd, numbers, DT)
        LAW.advance(few, few_numbers, DT)
        np.testing.assert_array_equal(crowd["command"][:2], few["command"])
    assert (few["command_changes"] > 2).all()
