from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rlstab.analysis.robustness.forced import Plant
from rlstab.envs.registry import make_vec
from rlstab.policies.linear import LinearPolicy
from rlstab.runs.environment import EnvSettings

MakeLinear = Callable[[str, Any], LinearPolicy]


@pytest.fixture(scope="session")
def linear_policy() -> MakeLinear:
    """State feedback on an environment."""

    def make(env_id: str, gain: Any) -> LinearPolicy:
        env = make_vec(env_id, 1)
        return LinearPolicy(gain, env.single_observation_space, env.single_action_space)

    return make


@pytest.fixture(scope="session")
def balancer(linear_policy: MakeLinear) -> LinearPolicy:
    """The regulator of the inverted pendulum, by the table of the H-infinity specification."""
    return linear_policy("InvertedPendulum-v5", [[-1.71887192, -12.14529364, -2.0146129, -1.9015019]])


@pytest.fixture(scope="session")
def pendulum() -> Plant:
    return Plant.of(EnvSettings("InvertedPendulum-v5", 300), num_threads=1)
