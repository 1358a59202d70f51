from __future__ import annotations

from typing import Any

import numpy as np

from rlstab.analysis.robustness.outputs import TrackingOutput, output_of
from rlstab.envs.registry import make_vec


def test_a_quadruped_gives_the_tracking_that_it_misses() -> None:
    env: Any = make_vec("rlstab/Go1Velocity-v0", 2, num_threads=1)
    output = output_of(env)
    assert isinstance(output, TrackingOutput)
    env.reward_terms = {"tracking_linear": np.array([0.02, 0.005]), "tracking_angular": np.array([0.01, 0.01])}
    z, cost = output(np.zeros((2, 37)), np.zeros((2, 12)), np.zeros(2), np.zeros(2, bool))
    np.testing.assert_allclose(z, [[0.0], [0.5]], atol=1e-12)
    np.testing.assert_allclose(cost, [0.0, 0.5], atol=1e-12)
