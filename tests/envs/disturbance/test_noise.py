from __future__ import annotations

import numpy as np
import pytest

from rlstab.envs.disturbance import ObservationNoise, Range
from rlstab.errors import UserError


def noise_of(env, steps=200):
    """Difference between what is seen and what is true over an episode, ``(steps + 1, num_envs, obs_dim)``."""
    seen, _ = env.reset(seed=0)
    noise = [seen - env.task.observe(env.physics)]
    for _ in range(steps):
        seen = env.step(np.zeros((env.num_envs, 1)))[0]
        noise.append(seen - env.task.observe(env.physics))
    return np.array(noise)


def test_gaussian_noise_has_the_standard_deviation(make_box):
    noise = noise_of(make_box([ObservationNoise(0.5)]))
    assert noise.std() == pytest.approx(0.5, rel=0.03)
    assert abs(noise.mean()) < 0.02


def test_uniform_noise_fills_its_interval(make_box):
    noise = noise_of(make_box([ObservationNoise(0.5, "uniform")]))
    assert 0.49 < np.abs(noise).max() <= 0.5
    assert noise.std() == pytest.approx(0.5 / np.sqrt(3), rel=0.03)


def test_scale_sets_the_unit_of_each_component(make_box):
    scale = (2.0, *[0.0] * 14)
    noise = noise_of(make_box([ObservationNoise(0.5, scale=scale)]))
    assert noise[..., 0].std() == pytest.approx(1.0, rel=0.1)
    assert np.all(noise[..., 1:] == 0)


def test_sigma_is_drawn_once_an_episode(make_box):
    noise = noise_of(make_box([ObservationNoise(Range(0.0, 1.0))], 6))
    sizes = noise.std(axis=(0, 2))
    assert sizes.max() > 2 * sizes.min()


def test_the_noise_of_a_world_is_its_own_and_does_not_depend_on_the_others(make_box):
    three = noise_of(make_box([ObservationNoise(1.0)], 3), 5)
    one = noise_of(make_box([ObservationNoise(1.0)], 1, world_offset=2), 5)
    np.testing.assert_allclose(three[:, 2:], one, atol=1e-12)
    assert not np.allclose(three[:, 0], three[:, 1])


def test_more_noise_is_the_same_noise_larger(make_box):
    np.testing.assert_allclose(
        noise_of(make_box([ObservationNoise(1.0)]), 5), 10 * noise_of(make_box([ObservationNoise(0.1)]), 5), atol=1e-9
    )


def test_the_last_observation_of_an_episode_is_noisy_and_the_next_first_one_too(make_box):
    env = make_box([ObservationNoise(1.0)], 2, max_episode_steps=1)
    env.reset(seed=0)
    observation, *_, infos = env.step(np.zeros((2, 1)))
    assert np.all(np.abs(infos["final_obs"][:, 7:]) > 1e-6)
    assert np.all(np.abs(observation[:, 7:]) > 1e-6)
    assert not np.allclose(observation, infos["final_obs"])


def test_a_scale_of_another_length_is_refused(make_box):
    env = make_box([ObservationNoise(1.0, scale=(1.0, 2.0))])
    with pytest.raises(UserError, match="2 scales"):
        env.reset(seed=0)


@pytest.mark.parametrize("arguments", [(-1.0,), (1.0, "laplace")])
def test_nonsense_is_refused(arguments):
    with pytest.raises(UserError):
        ObservationNoise(*arguments)
