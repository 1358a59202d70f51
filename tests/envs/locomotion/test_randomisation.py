"""Noise and parameters for training."""

from typing import Any

import numpy as np

from rlstab.envs.locomotion.randomisation import SENSOR_NOISE, go1_randomisation, sensor_noise
from rlstab.envs.registry import make_vec

ID = "rlstab/Go1Velocity-v0"


def test_what_is_sensed_is_noisy_and_what_is_known_is_not():
    terms = make_vec(ID, num_threads=1).observation_terms
    env: Any = make_vec(ID, 300, num_threads=1, disturbances=sensor_noise(terms, 0.5))
    observation, _ = env.reset(seed=0)
    error = np.abs(observation - env.task.observe(env.state)).max(axis=0)
    sizes = np.concatenate([np.full(term.dim, SENSOR_NOISE.get(term.name.split("/")[0], 0.0)) for term in terms])
    np.testing.assert_array_equal(error[sizes == 0.0], 0.0)
    assert np.count_nonzero(sizes == 0.0) == 12 + 3
    assert (error <= 0.5 * sizes).all()
    assert (error >= 0.47 * sizes).all()


def test_every_world_has_a_robot_of_its_own():
    env: Any = make_vec(ID, 6, num_threads=1, disturbances=go1_randomisation())
    env.reset(seed=0)
    masses = [env.physics.world_model(world).body_mass.sum() for world in range(6)]
    assert len(set(masses)) == 6
    assert all(abs(mass - 12.74) < 0.1 * 12.74 + 1.2 for mass in masses)
    stiffness = {float(-env.physics.world_model(world).actuator_biasprm[0, 1]) for world in range(6)}
    assert len(stiffness) == 6
    for world in range(6):
        model = env.physics.world_model(world)
        # A stronger servo still asks for the same angles.
        np.testing.assert_allclose(model.actuator_biasprm[1, 0] / -model.actuator_biasprm[1, 1], 0.9)
    env.step(np.zeros((6, 12)))
