from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstab.envs.disturbance import ActionDelay, ObservationDelay, Range
from rlstab.errors import UserError
from rlstab.runs.seeding import generator


def view(num_envs: int) -> Any:
    return SimpleNamespace(num_envs=num_envs, rng=lambda world, purpose: generator(0, world, purpose))


def signal(step: int, num_envs: int) -> np.ndarray:
    """Values that say which step (from 1) and world they are of."""
    return np.stack([np.full(2, 100.0 * world + step) for world in range(num_envs)])


@given(delay=st.integers(0, 5), num_envs=st.integers(1, 3), steps=st.integers(1, 12))
def test_actions_arrive_after_the_delay_and_zeros_before(delay, num_envs, steps):
    effect = ActionDelay(delay).attach(view(num_envs))
    effect.begin(np.arange(num_envs))
    for step in range(1, steps + 1):
        arrived = effect.action(signal(step, num_envs))
        expected = signal(step - delay, num_envs) if step > delay else np.zeros((num_envs, 2))
        np.testing.assert_array_equal(arrived, expected)


@given(delay=st.integers(0, 5), steps=st.integers(1, 12))
def test_observations_are_seen_after_the_delay_and_the_first_one_before(delay, steps):
    effect = ObservationDelay(delay).attach(view(2))
    effect.begin(np.arange(2))
    np.testing.assert_array_equal(effect.first_observation(signal(0, 2), np.arange(2)), signal(0, 2))
    for step in range(1, steps + 1):
        np.testing.assert_array_equal(effect.observation(signal(step, 2)), signal(max(step - delay, 0), 2))


def test_a_new_episode_of_one_world_forgets_and_leaves_the_others_alone():
    effect = ActionDelay(2).attach(view(2))
    observed = ObservationDelay(2).attach(view(2))
    for item in (effect, observed):
        item.begin(np.arange(2))
    observed.first_observation(signal(0, 2), np.arange(2))
    for step in (1, 2, 3):
        effect.action(signal(step, 2))
        observed.observation(signal(step, 2))
    one = np.array([1])
    for item in (effect, observed):
        item.begin(one)
    observed.first_observation(np.full((1, 2), -1.0), one)
    np.testing.assert_array_equal(effect.action(signal(4, 2)), [[2, 2], [0, 0]])
    np.testing.assert_array_equal(observed.observation(signal(4, 2)), [[2, 2], [-1, -1]])


def test_the_delay_is_drawn_for_each_world():
    effect: Any = ActionDelay(Range(0, 4)).attach(view(50))
    effect.begin(np.arange(50))
    assert set(effect.delay.tolist()) == {0, 1, 2, 3, 4}


def test_jitter_adds_up_to_its_steps():
    effect = ActionDelay(1, jitter=2).attach(view(30))
    effect.begin(np.arange(30))
    for step in range(1, 10):
        effect.action(signal(step, 30))
    ages = signal(10, 30) - effect.action(signal(10, 30))
    assert set(ages[:, 0].tolist()) == {1.0, 2.0, 3.0}


def test_arrays_of_images_and_integers_can_be_late():
    effect = ObservationDelay(1).attach(view(1))
    effect.begin(np.arange(1))
    first = np.full((1, 4, 4, 3), 7, np.uint8)
    effect.first_observation(first, np.arange(1))
    late = effect.observation(np.zeros((1, 4, 4, 3), np.uint8))
    np.testing.assert_array_equal(late, first)
    assert late.dtype == np.uint8


@pytest.mark.parametrize("settings", [{"steps": -1}, {"steps": 0.5}, {"steps": Range(0, 1.5)}, {"jitter": -1}])
def test_nonsense_is_refused(settings):
    with pytest.raises(UserError):
        ActionDelay(**settings)


@pytest.mark.parametrize(
    ("jitter", "words"), [(Range(0, 2), "jitter must be a number, got"), (0.5, "jitter must be whole, got 0.5")]
)
def test_jitter_is_one_whole_number(jitter, words):
    with pytest.raises(UserError, match=words):
        ObservationDelay(1, jitter=jitter)
    assert ObservationDelay(1, jitter=2.0) == ObservationDelay(1, jitter=2)  # type: ignore[arg-type]
