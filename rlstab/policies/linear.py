"""State feedback by a matrix, as a policy: what theory designs and learned policies are compared with."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlstab.errors import UserError
from rlstab.policies.base import as_batch


class LinearPolicy:
    """``u = -K o``, clipped to the action space.

    Parameters
    ----------
    gain
        ``K (action_dim, observation_dim)``.
    observation_space, action_space
        Vectors of these sizes.

    Raises
    ------
    UserError
        The sizes do not fit, or a number is not finite.
    """

    def __init__(self, gain: ArrayLike, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> None:
        self.gain: NDArray[np.float64] = np.atleast_2d(np.asarray(gain, np.float64))
        if not isinstance(action_space, gymnasium.spaces.Box):
            raise UserError(f"state feedback gives real numbers, not a {type(action_space).__name__}")
        expected = (*action_space.shape, *(observation_space.shape or ()))
        if self.gain.shape != expected or not np.isfinite(self.gain).all():
            raise UserError(f"the gain must be {expected} finite numbers, got shape {self.gain.shape}")
        self.observation_space, self.action_space = observation_space, action_space

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """See `rlstab.policies.base.Policy.predict`; it has neither memory nor chance."""
        del episode_start, deterministic
        batch, batched = as_batch(observation, self.observation_space)
        space = self.action_space
        assert isinstance(space, gymnasium.spaces.Box)
        action = np.clip(-batch @ self.gain.T, space.low, space.high)
        return (action if batched else action[0]), state
