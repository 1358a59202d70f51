from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlstab.errors import UserError
from rlstab.policies.base import Policy
from rlstab.policies.linear import LinearPolicy

SPACE = Box(-np.inf, np.inf, (2,))


def test_it_feeds_the_state_back_and_stays_in_the_space() -> None:
    policy = LinearPolicy([[2.0, 1.0]], SPACE, Box(-3.0, 3.0, (1,)))
    assert isinstance(policy, Policy)
    np.testing.assert_allclose(policy.predict(np.array([0.5, 0.25]))[0], [-1.25])
    np.testing.assert_allclose(policy.predict(np.array([[0.5, 0.25], [-4.0, 0.0]]))[0], [[-1.25], [3.0]])


@pytest.mark.parametrize(
    ("gain", "space", "words"),
    [
        ([[1.0]], Box(-1.0, 1.0, (1,)), r"\(1, 2\)"),
        ([[1.0, np.nan]], Box(-1.0, 1.0, (1,)), "finite"),
        ([[1.0, 1.0]], Discrete(2), "real numbers"),
    ],
)
def test_what_does_not_fit_is_refused(gain: list[list[float]], space: Box | Discrete, words: str) -> None:
    with pytest.raises(UserError, match=words):
        LinearPolicy(gain, SPACE, space)
