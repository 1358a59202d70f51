from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlstab.envs.disturbance import ObservationDelay, ObservationNoise, ParameterScale, RandomForce, Range, parse
from rlstab.envs.registry import make_vec
from rlstab.errors import UserError
from rlstab.runs.state import pack, unpack

EVERYTHING = (
    *parse("gain=0.5:1,mass=0.5:2,friction=0.5:1,latency=0:2,observation_delay=0:2,noise=0:0.1,tilt=0:5"),
    RandomForce("torso", Range(0.0, 5.0), "sagittal", hold_steps=2, frame="body"),
)


def hopper(*arguments: Any, **settings: Any) -> Any:
    return make_vec("Hopper-v5", *arguments, **settings)


def trajectory(env: Any, steps: int, start: int = 0) -> np.ndarray:
    worlds = np.array(env._world_numbers)
    observations = []
    for step in range(start, start + steps):
        action = np.sin(step + worlds[:, None] + np.arange(3))
        observations.append(env.step(action)[0])
    return np.array(observations)


def test_a_disturbed_run_continues_bit_for_bit_from_its_saved_state():
    env = hopper(3, seed=4, disturbances=EVERYTHING, num_threads=1)
    env.reset()
    trajectory(env, 60)
    saved = unpack(*pack(env.state_dict()))
    expected = trajectory(env, 60, 60)

    other = hopper(3, seed=9, disturbances=EVERYTHING, num_threads=1)
    other.reset()
    trajectory(other, 5)
    other.load_state_dict(saved)
    np.testing.assert_array_equal(trajectory(other, 60, 60), expected)


def test_a_disturbed_world_does_not_depend_on_the_others():
    many = hopper(4, seed=4, disturbances=EVERYTHING)
    one = hopper(1, seed=4, disturbances=EVERYTHING, world_offset=3)
    many.reset()
    one.reset()
    np.testing.assert_array_equal(trajectory(many, 80)[:, 3], trajectory(one, 80)[:, 0])


def test_harmless_disturbances_change_nothing():
    harmless = parse("gain=1,mass=1,friction=1,latency=0,observation_delay=0,noise=0,tilt=0")
    disturbed = hopper(2, seed=0, disturbances=harmless)
    plain = hopper(2, seed=0)
    np.testing.assert_array_equal(disturbed.reset()[0], plain.reset()[0])
    np.testing.assert_array_equal(trajectory(disturbed, 100), trajectory(plain, 100))


def test_disturbances_leave_the_initial_states_alone():
    disturbed = hopper(3, seed=0, disturbances=parse("mass=0.5:2,latency=1"))
    np.testing.assert_array_equal(disturbed.reset()[0], hopper(3, seed=0).reset()[0])


def test_one_value_serves_many_environments_without_sharing_memory():
    delay = ObservationDelay(1)
    first, second = (hopper(1, seed=0, disturbances=[delay]) for _ in range(2))
    first.reset()
    trajectory(first, 3)
    second.reset()
    first.reset(seed=0)
    np.testing.assert_array_equal(trajectory(first, 3), trajectory(second, 3))


def test_order_is_that_of_the_list():
    noise_then_delay = hopper(1, seed=0, disturbances=[ObservationNoise(0.1), ObservationDelay(1)])
    delay_then_noise = hopper(1, seed=0, disturbances=[ObservationDelay(1), ObservationNoise(0.1)])
    first = noise_then_delay.reset()[0]
    delay_then_noise.reset()
    # Delayed noise: the first observation is seen again, noise and all. Noise after the delay is drawn anew.
    np.testing.assert_array_equal(trajectory(noise_then_delay, 1)[0], first)
    assert not np.array_equal(trajectory(delay_then_noise, 1)[0], first)


def test_something_else_is_refused():
    wrong: Any = ["gain=0.8"]
    with pytest.raises(UserError, match="not a disturbance"):
        hopper(1, disturbances=wrong)


def test_an_empty_list_costs_nothing():
    assert hopper(1).disturbances == ()
    assert len(hopper(1, disturbances=[ParameterScale("mass", 1.0)] * 3).disturbances) == 1


def test_two_of_one_kind_draw_different_numbers_and_the_first_keeps_its_own():
    def masses(*disturbances):
        env = hopper(6, seed=3, disturbances=disturbances)
        env.reset()
        changed = np.array([env.physics.world_model(world).body_mass for world in range(6)])
        return changed[:, 1:] / env.model.body_mass[1:]

    torso, foot = (ParameterScale("mass", Range(0.5, 2.0), (name,)) for name in ("torso", "foot"))
    alone, together = masses(torso), masses(torso, foot)
    np.testing.assert_array_equal(alone[:, 0], together[:, 0])
    assert abs(np.corrcoef(together[:, 0], together[:, 3])[0, 1]) < 0.99
    assert not np.allclose(together[:, 0], together[:, 3])

    env = hopper(2, seed=3, disturbances=[RandomForce("torso", 5.0), RandomForce("torso", 5.0)])
    env.reset()
    env.step(np.zeros((2, 3)))
    first, second = (effect.wrench() for effect in env.disturbances)
    assert not np.allclose(first, second)


def test_infinite_strengths_are_refused():
    with pytest.raises(UserError, match="must be finite"):
        parse("noise=inf")
