"""Passive T-Maze: a cue at the beginning says which way to turn at the end of a corridor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlstab.envs.memory.task import Episodes, MemoryTask, Observation
from rlstab.envs.physics.interface import FloatArray, IntArray

_MOVES = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.int64)


@dataclass(frozen=True, kw_only=True)
class PassiveTMaze(MemoryTask):
    """Walk right ``length`` times, then choose the arm that was shown at the first step and never again.

    Positions are ``x`` from 0 to ``length`` along the corridor, and ``y`` of -1, 0 or 1, other than 0 only in the two
    arms at its end; a move into a wall changes nothing. Episodes take ``length + 1`` steps, exactly what the way needs,
    so the best return is 1. Without memory no policy is expected to get more than 0.5: who lags behind, and could so
    tell the two cues apart, no longer reaches an arm.

    Observed, two numbers: ``(0, cue)`` with ``cue`` of -1 or 1 at the first step, ``(0, 0)`` in the corridor, and
    ``(1, y)`` at its end and in the arms; where in the corridor the agent is, it does not see.

    Actions: 0 right, 1 up, 2 left, 3 down.

    Reward: 1 at the last step if it ends in the arm with ``y = cue``, else 0; at every step ``t`` (from 1) before the
    last, ``-1 / length`` if ``x < t``. The lowest return is -1.

    References
    ----------
    Ni, Ma, Eysenbach, Bacon (2023). When do transformers shine in RL? Decoupling memory from credit assignment. NeurIPS
    (arXiv 2307.03864). Settings as in the authors' code (twni2016/Memory-RL).
    Bakker (2001). Reinforcement learning with long short-term memory. NeurIPS.
    """

    place_size: ClassVar[int] = 2

    length: int = 50
    """Moves from the start to the junction."""

    @property
    def horizon(self) -> int:
        """Steps of an episode: ``length + 1``."""
        return self.length + 1

    @property
    def hidden_size(self) -> int:
        """The cue alone."""
        return 1

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        """Whether the corridor has ended, and the cue or ``y``."""
        return gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    @property
    def action_space(self) -> gymnasium.spaces.Discrete:
        """Right, up, left, down."""
        return gymnasium.spaces.Discrete(4)

    def draw(self, rng: np.random.Generator) -> NDArray[Any]:
        """The cue, -1 or 1 with equal probability."""
        return 2 * rng.integers(2, size=1) - 1

    def observe(self, episodes: Episodes) -> Observation:
        """Observation ``(n, 2)``."""
        x, y = episodes.place.T
        observation = np.empty((len(x), 2), np.float32)
        observation[:, 0] = x == self.length
        # The cue is seen before the first step, when y is 0.
        observation[:, 1] = y + episodes.hidden[:, 0] * (episodes.elapsed == 0)
        return observation

    def act(self, episodes: Episodes, action: IntArray) -> tuple[IntArray, FloatArray]:
        """Move, and be rewarded for the arm or blamed for lagging behind."""
        place = episodes.place + _MOVES[action]
        x, y = place.T
        free = np.where(y == 0, (x >= 0) & (x <= self.length), (x == self.length) & (np.abs(y) == 1))
        place = np.where(free[:, None], place, episodes.place)
        x, y = place.T
        step = episodes.elapsed + 1
        chosen = (y == episodes.hidden[:, 0]).astype(np.float64)
        return place, np.where(step == self.horizon, chosen, (x < step) * (-1.0 / self.length))
